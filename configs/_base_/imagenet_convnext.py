# ConvNeXt teachers of ResNet-18. The authors' code starts at a rate of 0.02 with these teachers; the
# text has 0.1 for all.
_base_ = './imagenet.py'

model = dict(
    teacher=dict(
        # returns pooled vectors: the norm comes after pooling, and the logits need it so
        backbone=dict(_delete_=True, type='ConvNeXt', arch='tiny'),
        neck=None,
        head=dict(in_channels=768),
    ),
    # Maps have to be taken from the stages: a second entry of out_indices would add a norm that no published
    # checkpoint has.
    distiller=dict(records=dict(feats=dict(teacher=['backbone.stages.2', 'backbone.stages.3']))),
)
