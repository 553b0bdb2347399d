"""The template of the report page (Jinja2)."""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="dpk_mm {{ version }}">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d5dae0; --back: #ffffff; --card: #f5f7f9;
  --link: #0058a3; --warn: #fff3d6; --warn-line: #b87a00; }
@media (prefers-color-scheme: dark) { :root { --text: #e8eaed; --soft: #a3abb5; --line: #3a4149; --back: #15181c;
  --card: #1d2126; --link: #7cb8ff; --warn: #3a2f12; --warn-line: #e0a93a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 1rem clamp(0.8rem, 3vw, 2rem) 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.6rem 0 0.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; padding-top: 0.6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; }
p { margin: 0.4rem 0; max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: 0.875rem; }
.wide { overflow-x: auto; margin: 0.4rem 0; }
.wide:focus-visible, summary:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.3rem; }
caption span { display: block; max-width: min(46rem, calc(100vw - 2.4rem)); }
th, td { text-align: left; padding: 0.35rem 0.9rem 0.35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--line); }
td.n, th.n { text-align: right; padding: 0.35rem 0 0.35rem 1.1rem; }
td.n { white-space: nowrap; }
thead th.n { min-width: 5.5rem; max-width: 12rem; }
tbody th { font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1rem; }
figure { margin: 0; }
.charts figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.8rem; }
.charts h3 { margin: 0 0 0.3rem; }
.charts svg { display: block; width: 100%; height: auto; max-width: 36rem; }
details { margin: 0.4rem 0; }
summary { cursor: pointer; color: var(--link); font-size: 0.9rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 0.7rem; overflow-x: auto;
  font: 0.82rem/1.45 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
.alarm { background: var(--warn); border-left: 4px solid var(--warn-line); padding: 0.5rem 0.8rem; margin: 0.6rem 0;
  max-width: 46rem; overflow-wrap: anywhere; }
.picture img { display: block; width: 100%; min-width: 38rem; max-width: 64rem; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 4px; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 0.6rem; }
@media print { details, .charts figure { break-inside: avoid; } }
</style>
</head>
<body>
{% macro table(data) %}
<div class="wide" tabindex="0" role="region" aria-label="Table: {{ data.caption }}">
<table>
<caption><span>{{ data.caption }}</span></caption>
<thead><tr>
{% for column in data.columns %}
<th scope="col"{% if column.numeric %} class="n"{% endif %}>{{ column.name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in data.rows %}
<tr>
{% for cell in row %}
{% if loop.first %}
<th scope="row">{{ cell }}</th>
{% else %}
<td{% if data.columns[loop.index0].numeric %} class="n"{% endif %}>{{ cell }}</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
<main>
<header>
<h1>{{ title }}</h1>
<p>{{ summary }}</p>
</header>
{% if alarms %}
<section aria-labelledby="alarms">
<h2 id="alarms">Alarms</h2>
{% for name, text in alarms %}
<p class="alarm"><strong>{{ name }}:</strong> {{ text }}</p>
{% endfor %}
</section>
{% endif %}
<section aria-labelledby="models">
<h2 id="models">Models</h2>
{{ table(models) }}
{% if points %}
<p class="soft">A point is a hundredth of the metric.</p>
{% endif %}
{% if all_metrics %}
<details>
<summary>All metrics</summary>
{{ table(all_metrics) }}
</details>
{% endif %}
</section>
{% if charts %}
<section aria-labelledby="curves">
<h2 id="curves">Curves</h2>
<div class="charts">
{% for chart in charts %}
<figure role="group" aria-labelledby="chart-{{ loop.index }}">
<h3 id="chart-{{ loop.index }}">{{ chart.title }}</h3>
{{ chart.svg|safe }}
<figcaption>
{{ chart.note }}
<details>
<summary>Values of this chart</summary>
{{ table(chart.table) }}
</details>
</figcaption>
</figure>
{% endfor %}
</div>
</section>
{% endif %}
{% for run in sections %}
<section aria-labelledby="{{ run.id }}">
<h2 id="{{ run.id }}">{{ run.heading }}</h2>
{% if not run.complete %}
<p class="soft">This folder has no report.json of its last training, which did not reach its end, or was not started by
tools/train.py. Teacher, speed, examples and environment are not known.</p>
{% endif %}
{% if run.examples %}
<h3>{{ run.examples.heading }}</h3>
<p>{{ run.examples.text }}</p>
{% if run.examples.picture %}
<div class="wide picture" tabindex="0" role="region" aria-label="Picture: example detections">
<img src="{{ run.examples.picture }}" alt="{{ run.examples.alt }}">
</div>
{% endif %}
{% if run.examples.table %}
{{ table(run.examples.table) }}
{% endif %}
{% endif %}
{% if run.missing %}
<p class="soft">Not available: {{ run.missing|join("; ") }}</p>
{% endif %}
{% if run.chosen %}
<h3>Chosen automatically</h3>
{{ table(run.chosen) }}
{% endif %}
<h3>Command and environment</h3>
{% if run.command %}
<pre class="wrap"><code>{{ run.command }}</code></pre>
{% endif %}
{{ table(run.environment) }}
{% if run.config %}
<details>
<summary>The whole config</summary>
<pre tabindex="0"><code>{{ run.config }}</code></pre>
</details>
{% endif %}
</section>
{% endfor %}
<footer class="soft">Written by dpk_mm {{ version }}. Parameters are all of a model, trained or not, without the modules
that the losses of a distillation add while training.</footer>
</main>
</body>
</html>
"""
