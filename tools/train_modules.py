"""Trains DPK's transformation modules on the teacher's features alone, for a distillation that starts from them."""

import argparse
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.runner import Runner, set_random_seed

from dpk_mm.analysis.loading import build_model, dpk_losses, load_own_teacher, read_config, scope_of
from dpk_mm.cli.errors import readable_errors
from dpk_mm.engine.module_training import train_modules
from dpk_mm.engine.runner.prepare import prepare_config
from dpk_mm.fileio import replacing
from dpk_mm.models.distillers.trained_modules import module_weights


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a distillation with a DPKLoss')
    parser.add_argument(
        'out', type=Path, help='file of the modules, for model.distiller.modules_ckpt'
    )
    parser.add_argument('--teacher-ckpt', help="the teacher's checkpoint, in place of the config's")
    parser.add_argument('--iterations', type=int, default=500, help='steps (default: 500)')
    parser.add_argument('--lr', type=float, default=1e-3, help='learning rate (default: 1e-3)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = prepare_config(
        read_config(args.config, args.cfg_options, args.teacher_ckpt),
        teacher_ckpt=args.teacher_ckpt,
    )
    set_random_seed(args.seed)
    model = build_model(cfg)
    dpk_losses(model, args.config)  # before the teacher is read
    load_own_teacher(model)
    model.init_weights()
    model.to(args.device)

    def report(iteration: int, errors: dict[str, float]) -> None:
        if iteration % 20 == 0 or iteration == args.iterations:
            shown = ', '.join(f'{name} {error:.3f}' for name, error in errors.items())
            print(f'{iteration}/{args.iterations}: error {shown}', flush=True)

    with scope_of(cfg):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=args.seed)
        errors = train_modules(model, loader, args.iterations, args.lr, report=report)
    meta = dict(config=args.config, iterations=args.iterations, errors=errors)
    with replacing(args.out) as file:
        torch.save(dict(meta=meta, state_dict=module_weights(model.distiller)), file)
    print(f'{args.out}: use it with --cfg-options model.distiller.modules_ckpt={args.out}')


if __name__ == '__main__':
    with readable_errors('train_modules.py'):
        main()
