"""The demonstration behind `tools/quickstart.sh`: a teacher, and one student trained three ways.

`plan` says what is to be run, `process` runs one command and follows its log, `state` remembers
what is done, `report` draws, and `driver` puts them together.
"""
