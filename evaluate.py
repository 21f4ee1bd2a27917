r"""Ask a model the questions of news items, closed book or with the news in context, or those of a benchmark.

    python evaluate.py --model data/pocket --news data/pocket_news.yaml --out answers.jsonl
    python evaluate.py --model data/pocket --adapter runs/adapter --news data/pocket_news.yaml \
    --in-context --out answers.jsonl

    python evaluate.py --model M --task gsm8k --data test.jsonl --out answers.jsonl
    python evaluate.py --model M --task mmlu_pro --data questions.jsonl --shots 5 \
    --examples validation.jsonl --out answers.jsonl
    python evaluate.py --model M --task choice --data FILE.jsonl --no-template --out answers.jsonl

News formats: by letter, by option text (log-probabilities, raw and per byte), free form, and free form after
thought. A line of OUT is a raw response, judged by nobody: the log-probability of each option, or the reply.
The table on stdout has 95% intervals, clustered by news item. `python -m newnews retain` compares two files.
Under torchrun the processes share the items, and OUT has the same bytes.
"""

import argparse


NEWS_ONLY = "news", "in_context", "formats", "world", "prompts", "seed"
BENCHMARK_ONLY = "shots", "examples", "turns", "no_template", "max_new_tokens"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder or hub id")
    parser.add_argument("--adapter", help="PEFT folder of a LoRA adapter for that model (default: none)")
    parser.add_argument("--news", metavar="PATH",
                        help="YAML file or folder of news with questions (default: --data)")
    parser.add_argument("--task", default="news", metavar="NAME",
                        help="news, mmlu_pro, gsm8k, ifeval, choice or reversal (default: %(default)s)")
    parser.add_argument("--data", metavar="PATH",
                        help="the benchmark's questions, JSONL, in its own format (default: --news)")
    parser.add_argument("--out", required=True, metavar="FILE", help="answers to write, JSONL")
    parser.add_argument("--limit", type=int, metavar="N",
                        help="ask the first N items only (default: all)")
    parser.add_argument("--in-context", action="store_true",
                        help="put the news before each question (default: closed book)")
    parser.add_argument("--formats", default="free,text,letter", metavar="LIST",
                        help="some of letter, text, free, reason, comma-separated (default: %(default)s)")
    parser.add_argument("--world", type=int, default=0,
                        help="which of the worlds of the news is the actual one (default: %(default)s)")
    parser.add_argument("--prompts", metavar="YAML",
                        help="how it is asked (default: the model folder's prompts.yaml, "
                             "else configs/prompts/qwen.yaml)")
    parser.add_argument("--seed", type=int, default=0,
                        help="draws the order in which options are shown (default: %(default)s)")
    parser.add_argument("--shots", type=int, default=0, metavar="N",
                        help="benchmarks: worked examples before each question (default: %(default)s)")
    parser.add_argument("--examples", metavar="FILE",
                        help="where the worked examples are, in the format of the data (default: none)")
    parser.add_argument("--turns", action="store_true",
                        help="worked examples as turns of the conversation (default: as one text)")
    parser.add_argument("--no-template", action="store_true",
                        help="benchmarks: without the chat template, for base models (default: with it)")
    parser.add_argument("--max-new-tokens", type=int, metavar="N",
                        help="benchmarks: where a reply is cut (default: 2048 for mmlu_pro, 512 for gsm8k, "
                             "1280 for ifeval, 128 for reversal)")
    parser.add_argument("--device", default="auto",
                        help="cpu, cuda or auto: cuda if there (default: %(default)s)")
    parser.add_argument("--dtype", default="auto",
                        help="fp32, bf16 or auto, as generate.py (default: %(default)s)")
    args = parser.parse_args()
    args.given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    return args


def settings(args):
    """(where the data are, how they are asked but for the prompts of news): newnews/tasks/settings.py."""
    from newnews.reading import whole
    from newnews.tasks.news import FORMATS
    from newnews.tasks.settings import NAMES

    if args.task not in NAMES:
        raise ValueError(f"--task {args.task}: expected {', '.join(NAMES)}")
    news = args.task == "news"
    for name in BENCHMARK_ONLY if news else NEWS_ONLY:
        if name in args.given:
            raise ValueError(f"--{name.replace('_', '-')} is not for --task {args.task}")
    if (args.news is None) == (args.data is None):
        raise ValueError("expected one of --news and --data" if news
                         else f"--task {args.task} needs --data PATH")
    for name, least in (("limit", 1), ("max_new_tokens", 1), ("shots", 0)):
        if getattr(args, name) is not None:
            whole(f"--{name.replace('_', '-')}", getattr(args, name), least)
    how = {"task": args.task, "limit": args.limit}
    if news:
        formats = args.formats.split(",")
        if not set(formats) <= set(FORMATS):
            raise ValueError(f"--formats {args.formats}: expected some of {', '.join(FORMATS)}, "
                             f"comma-separated")
        return args.news or args.data, {**how, "world": args.world, "in_context": args.in_context,
                                        "seed": args.seed, "formats": formats}
    if bool(args.shots) != bool(args.examples):
        raise ValueError(f"--shots {args.shots} and --examples {args.examples}: one needs the other")
    if args.turns and not args.shots:
        raise ValueError("--turns is about worked examples; it needs --shots and --examples")
    if args.task == "choice" and args.max_new_tokens is not None:
        raise ValueError("--max-new-tokens is not for --task choice, which scores options and draws no reply")
    return args.data, {**how, "shots": args.shots, "turns": args.turns, "plain": args.no_template,
                       "max_new_tokens": args.max_new_tokens}


def main(args):
    from dataclasses import asdict, replace

    where, how = settings(args)

    from newnews.ask import answer_file
    from newnews.console import say
    from newnews.distributed import world
    from newnews.loading import load
    from newnews.prompts import prompts_for, source_of
    from newnews.studies.scores import score_table, scored
    from newnews.studies.summary import accuracy_table, verdicts
    from newnews.tasks.settings import make_items, make_task

    items = make_items(how, where)
    task = make_task(how, args.examples) if args.task != "news" else None       # before the model is loaded
    model, chat, about = load(args.model, args.adapter, args.device, args.dtype)
    if args.task == "news":
        about["prompts"] = args.prompts or source_of(about["folder"])
        prompts = prompts_for(about["folder"], args.prompts)
        how["prompts"] = asdict(replace(prompts, digest=""))        # a comment in the file makes no other run
        task = make_task(how)
    say(**about, processes=world(), data=f"{len(items)} from {where}", out=args.out,
        **{name: value for name, value in how.items()
           if name not in ("prompts", "limit") and value is not None})
    output = answer_file(args.out, (model, chat, about), task, items, how, where)
    if output and args.task == "news":
        print(accuracy_table(verdicts(output.path, task, items)))
    elif output:
        print(score_table(task, scored(output.path, task, items)))


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        from newnews.distributed import group
        with group(arguments.device):
            main(arguments)
