"""Grow a pocket model from scratch on the pocket world.

    python pretrain.py configs/pretrain/pocket.yaml --out data/pocket

Trains the tokenizer, then the model; stop it whenever you like, the same command goes on and ends in
the same bytes. Two processes of one thread share the work and end in the same model up to float
noise: torchrun --nproc-per-node 2 pretrain.py ... What a model of the pocket world can do:

    python pretrain.py --eval data/pocket
"""

import argparse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?",
                        help="YAML: model, tokenizer and recipe (configs/pretrain/*.yaml); "
                             "default: none, needed unless --eval is given")
    parser.add_argument("--out",
                        help="model folder to write; OUT.part holds the unfinished run")
    parser.add_argument("--device", default="auto",
                        help="cpu, cuda, or auto: cuda if there (default: %(default)s)")
    parser.add_argument("--eval", metavar="MODEL",
                        help="print the skills of a model folder on fresh dev news instead of growing one "
                             "(default: grow one)")
    parser.add_argument("--per-domain", type=int, default=8,
                        help="news a domain for --eval (default: %(default)s)")
    args = parser.parse_args()
    if args.eval is None and (args.config is None or args.out is None):
        parser.error("expected a config and --out, or --eval MODEL")
    if args.eval is not None and (args.config is not None or args.out is not None):
        parser.error("--eval looks at a model that is there; neither a config nor --out does anything then")
    if args.eval is None and args.per_domain != parser.get_default("per_domain"):
        parser.error("--per-domain is for --eval")
    return args


def main(args):
    if args.eval is not None:
        from newnews.world.skills import skills
        print(skills(args.eval, args.per_domain, device=args.device))
    else:
        from newnews.distributed import group
        from newnews.pretraining import pretrain
        with group(args.device):
            pretrain(args.config, args.out, args.device)


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        main(arguments)
