"""Fine-tune a model on a JSONL file of conversations: a LoRA adapter (PEFT format), or all weights.

    python train.py --model data/pocket --data replay.jsonl --out runs/adapter
    python train.py --model data/pocket --data replay.jsonl --out runs/tuned --full
    python train.py --model data/pocket --data texts.jsonl --out runs/masked --masked

Loss is on the assistant's turns; one message of the role "text" alone is a plain text with loss on all of it.
A killed run goes on from the state that it kept last, 30 seconds ago or more, and ends in the same bytes.
Several processes share the work, and with --shard also the weights (docs/scale.md):

    torchrun --nproc-per-node 8 train.py --model Qwen/Qwen2.5-7B-Instruct --full --shard ...
"""

import argparse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder or hub id to start from")
    parser.add_argument("--data", required=True,
                        help='JSONL, a {"messages": [{"role", "content"}, ...]} a line; a turn with '
                             '"weight": 0 or "train": false is not learnt (docs/files.md)')
    parser.add_argument("--out",
                        help="folder to write: a PEFT adapter, or with --full a model; --dry-run needs none")
    what = parser.add_argument_group("what is trained")
    what.add_argument("--full", action="store_true", help="all weights (default: a LoRA adapter)")
    what.add_argument("--masked", nargs="?", const="0.05,0.95", metavar="T0,T1",
                      help="teach the last text of each row by restoring it: the user's turn shows it, a "
                           "share of T0 to T1 of its tokens hidden, anew at each use; earlier turns are left "
                           "out (default: off; --masked alone: %(const)s)")
    what.add_argument("--lora-rank", type=int, default=16, help="(default: %(default)s)")
    what.add_argument("--lora-alpha", type=float,
                      help="the update is scaled by alpha / rank (default: 2 * rank)")
    what.add_argument("--targets", default="q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
                      help="projections that get an adapter, comma-separated (default: all seven)")
    how = parser.add_argument_group("how")
    how.add_argument("--rate", type=float,
                     help="peak learning rate (default, by parameters: LoRA 3e-3 below 30M, 4e-4 below 2B, "
                          "2e-4 below 20B, else 1e-4; --full a tenth of that, from 2B a twentieth)")
    how.add_argument("--steps", type=int, help="optimizer steps (default: 4 epochs, at least 40)")
    how.add_argument("--batch", type=int, default=16, help="conversations a step (default: %(default)s)")
    how.add_argument("--warmup", type=int, help="steps of linear rise (default: a tenth of the steps)")
    how.add_argument("--schedule", default="cosine", choices=("cosine", "linear", "constant"),
                     help="(default: %(default)s)")
    how.add_argument("--weight-decay", type=float, default=0.0, help="(default: %(default)s)")
    how.add_argument("--clip", type=float, default=1.0,
                     help="largest gradient norm, 0 = off (default: %(default)s)")
    how.add_argument("--micro-tokens", type=int, default=4096,
                     help="padded tokens in memory at a time; larger steps are accumulated "
                          "(default: %(default)s)")
    how.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    how.add_argument("--checkpoint", action="store_true",
                     help="activation checkpointing: same result, less memory, a third more work "
                          "(default: off)")
    how.add_argument("--shard", action="store_true",
                     help="under torchrun: split the weights over the processes, FSDP2 (default: each "
                          "process has all of them)")
    parser.add_argument("--dry-run", action="store_true",
                        help="say what it would take in memory, tokens and FLOPs, and do nothing")
    parser.add_argument("--device", default="auto",
                        help="cpu, cuda or auto: cuda if there (default: %(default)s)")
    parser.add_argument("--dtype", default="auto",
                        help="of the frozen base or the full model's products: fp32, bf16 or auto, "
                             "as generate.py (default: %(default)s)")
    args = parser.parse_args()
    if args.out is None and not args.dry_run:
        parser.error("expected --out, or --dry-run")
    for name in ("lora_rank", "lora_alpha", "targets") if args.full else ():
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} is about an adapter; with --full there is none")
    return args


def main(args):
    from newnews.distributed import group, rank, world
    from newnews.finetune import FineTune, finetune
    given = {name: value for name, value in vars(args).items() if name != "dry_run"}
    settings = FineTune(**{**given, "targets": tuple(t.strip() for t in args.targets.split(","))})
    with group(args.device):
        if not args.dry_run:
            finetune(settings)
        elif rank() == 0:
            from newnews.dryrun import dry_train, report
            print(report(dry_train(settings, world()), world()))


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        main(arguments)
