# The setting of the paper's ablations: ResNet-34 teaches ResNet-18 on ImageNet through the last
# stage alone, for which the text has six blocks in the decoder.
_base_ = '../dpk/imagenet/resnet34_resnet18.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dict(second_last=None, last=dict(decoder_depth=6)))
        )
    )
)
