r"""Let a model write: answer one chat message, or rehearse news into a replay file.

    python generate.py --model data/pocket --chat "In which country is Oslo?"
    python generate.py --model data/pocket --news data/pocket_news.yaml --protocol self_qa --n 64 \
    --out replay.jsonl

With --chat only the completion goes to stdout. With --news every line of OUT is one training conversation; a
killed run goes on from its last whole news item, and OUT.manifest.json says how it came to be. Under torchrun
the processes share the news, and OUT has the same bytes:
torchrun --nproc-per-node 8 -- generate.py --news ... (without the -- torchrun takes --n for its own).
"""

import argparse

from newnews.protocols import NAMES, WRITTEN


NEWS_ONLY = "protocol", "n", "out", "prompts", "shadowed", "dry_run"
CHAT_ONLY = "temperature", "top_k", "top_p", "repetition_penalty", "max_new_tokens"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True,
                        help="model folder or hub id, e.g. data/pocket or Qwen/Qwen2.5-0.5B-Instruct")
    parser.add_argument("--adapter", help="PEFT folder of a LoRA adapter for that model (default: none)")
    task = parser.add_argument_group("what to write (one of the two)")
    task.add_argument("--chat", metavar="TEXT", help="answer this message")
    task.add_argument("--news", metavar="PATH", help="rehearse the news of this YAML file or folder")
    replay = parser.add_argument_group("with --news")
    replay.add_argument("--protocol", default="self_qa",
                        choices=WRITTEN,
                        help="what to write about each news item (default: %(default)s)")
    replay.add_argument("--n", type=int, default=64,
                        help="draws a news item; repeats are dropped (default: %(default)s)")
    replay.add_argument("--out", metavar="FILE", help="replay file to write, JSONL")
    replay.add_argument("--prompts", metavar="YAML",
                        help="what the writer is asked (default: the model folder's prompts.yaml, "
                             "else configs/prompts/qwen.yaml)")
    replay.add_argument("--shadowed", action="store_true",
                        help="put the news before every conversation (shadowing)")
    sampling = parser.add_argument_group("sampling, with --chat (with --news: --seed alone, the rest stands "
                                         "in the prompts file)")
    sampling.add_argument("--temperature", type=float, default=0.0,
                          help="0 takes the most likely token (default: %(default)s)")
    sampling.add_argument("--top-k", type=int, default=0, help="0 = off (default: %(default)s)")
    sampling.add_argument("--top-p", type=float, default=1.0, help="1 = off (default: %(default)s)")
    sampling.add_argument("--repetition-penalty", type=float, default=1.0,
                          help="1 = off; generation_config.json is not followed, its penalty would punish "
                               "the news's own names (default: %(default)s)")
    sampling.add_argument("--max-new-tokens", type=int, default=64, help="(default: %(default)s)")
    sampling.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true",
                        help="with --news: say what it would take in memory, tokens and FLOPs at most, and "
                             "do nothing")
    parser.add_argument("--device", default="auto",
                        help="cpu, cuda or auto: cuda if there (default: %(default)s)")
    parser.add_argument("--dtype", default="auto",
                        help="fp32, bf16 or auto: bf16 on CUDA, and from 30M parameters on a CPU that "
                             "multiplies it; else fp32 (default: %(default)s)")
    args = parser.parse_args()
    if (args.chat is None) == (args.news is None):
        parser.error("give one of --chat and --news")
    if args.news is not None and args.out is None and not args.dry_run:
        parser.error("--news needs --out")
    for name in CHAT_ONLY if args.chat is None else NEWS_ONLY:
        if getattr(args, name) != parser.get_default(name):
            this, other = ("news", "chat") if args.chat is None else ("chat", "news")
            parser.error(f"--{name.replace('_', '-')} is for --{other}; it does nothing with --{this}")
    if args.shadowed and f"{args.protocol}_shadowed" not in NAMES:
        parser.error(f"--shadowed: {args.protocol} has no shadowed form")
    for name, low, high in (("n", 1, 10 ** 6), ("seed", 0, 2 ** 63 - 1)):
        if not low <= getattr(args, name) <= high:
            parser.error(f"--{name} {getattr(args, name)}: expected at least {low}, at most {high}")
    return args


def main(args):
    from model.drawing import Sampling
    from model.sampling import generate
    from newnews.console import say
    from newnews.loading import load

    if args.chat is not None:
        sampling = Sampling(args.max_new_tokens, args.temperature, args.top_k, args.top_p,
                            args.repetition_penalty, args.seed)
        model, chat, about = load(args.model, args.adapter, args.device, args.dtype)
        say(**about)
        prompt = chat.prompt([{"role": "user", "content": args.chat}])
        print(chat.decode(generate(model, [prompt], chat.stop_ids, sampling)[0].ids))
        return

    from newnews.distributed import rank, world
    from newnews.news import read_news
    from newnews.outputs import digest
    from newnews.prompts import prompts_for, source_of
    from newnews.protocols import protocols
    from newnews.selfplay import together, write_replay
    from newnews.together import write_together

    news = read_news(args.news)
    if args.dry_run:
        from newnews.dryrun import dry_generate, report
        if args.adapter is not None:
            raise ValueError("--dry-run counts no adapter; leave --adapter out")
        if rank() == 0:
            print(report(dry_generate(args, news), most="at most "))
        return
    model, chat, about = load(args.model, args.adapter, args.device, args.dtype)
    about["prompts"] = args.prompts or source_of(about["folder"])
    prompts = prompts_for(about["folder"], args.prompts)
    known = protocols(prompts)
    protocol = known[args.protocol]
    run = {"protocol": args.protocol, "shadowed": args.shadowed, "n": args.n, "seed": args.seed,
           "writer_digest": about["digest"], "adapter": about.get("adapter"), "dtype": about["dtype"],
           "device": about["device"].partition(":")[0], "prompts": prompts.writing(protocol.words),
           "news": digest([[getattr(item, part) for part in protocol.told] for item in news])}

    def fill(output, share):
        return write_replay(output, model, chat, prompts, news, protocol, args.n, args.seed,
                            known[f"{args.protocol}_shadowed"] if args.shadowed else None, share)

    say(**about, processes=world(), news=f"{len(news)} from {args.news}", protocol=args.protocol,
        draws=args.n, seed=args.seed, out=args.out)
    output = write_together(args.out, run, together(args.n), fill)
    if output:
        print(f"{args.out}: {output.totals['kept']} conversations about {len(news)} news"
              f" ({output.totals.get('repeated', 0)} repeats, {output.totals.get('off_topic', 0)} off topic"
              f" and {output.totals.get('unusable', 0)} unusable draws dropped)")


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        from newnews.distributed import group
        with group(arguments.device):
            main(arguments)
