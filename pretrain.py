"""Grow a pocket model from scratch on the pocket world.

    python pretrain.py configs/pretrain/pocket.yaml --out data/pocket

Trains the tokenizer, then the model; stop it whenever you like, the same command goes on and ends in
the same bytes.
"""

import argparse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="YAML: model, tokenizer and recipe (configs/pretrain/*.yaml)")
    parser.add_argument("--out", required=True,
                        help="model folder to write; OUT.part holds the unfinished run")
    parser.add_argument("--device", default="auto",
                        help="cpu, cuda, or auto: cuda if there (default: %(default)s)")
    return parser.parse_args()


def main(args):
    from newnews.pretraining import pretrain
    pretrain(args.config, args.out, args.device)


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        main(arguments)
