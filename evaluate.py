r"""Ask a model the questions of news items, closed book or with the news in context.

    python evaluate.py --model data/pocket --news data/pocket_news.yaml --out answers.jsonl
    python evaluate.py --model data/pocket --adapter runs/adapter --news data/pocket_news.yaml \
    --in-context --out answers.jsonl

Formats: by letter, by option text (log-probabilities, raw and per byte), free form, and free form after
thought. A line of OUT is a raw response, judged by nobody: the log-probability of each option, or the reply.
The table on stdout has 95% intervals, clustered by news item.
"""

import argparse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder or hub id")
    parser.add_argument("--adapter", help="PEFT folder of a LoRA adapter for that model (default: none)")
    parser.add_argument("--news", required=True, metavar="PATH",
                        help="YAML file or folder of news with questions")
    parser.add_argument("--out", required=True, metavar="FILE", help="answers to write, JSONL")
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
    parser.add_argument("--device", default="auto",
                        help="cpu, cuda or auto: cuda if there (default: %(default)s)")
    parser.add_argument("--dtype", default="auto",
                        help="fp32, bf16 or auto, as generate.py (default: %(default)s)")
    return parser.parse_args()


def main(args):
    from newnews.ask import CHUNK_TOKENS, answer_all
    from newnews.console import say
    from newnews.loading import load
    from newnews.news import check_asked, read_news
    from newnews.outputs import Rows, digest
    from newnews.prompts import prompts_for, read_prompts
    from newnews.studies.summary import accuracy_table, verdicts
    from newnews.tasks.news import NewsTask

    news = read_news(args.news, args.world)
    check_asked(news)
    model, chat, about = load(args.model, args.adapter, args.device, args.dtype)
    prompts = read_prompts(args.prompts) if args.prompts else prompts_for(about["folder"])
    task = NewsTask(prompts, args.in_context, args.seed, args.formats.split(","))
    run = {"model_digest": about["digest"], "adapter": about.get("adapter"), "dtype": about["dtype"],
           "task": task.name, "chunk": CHUNK_TOKENS,
           "requests": digest([[item.id, [r.content() for r in task.requests(item)]] for item in news])}
    output = Rows(args.out, run)
    say(**about, news=f"{len(news)} from {args.news}",
        asked="in context" if args.in_context else "closed book", seed=args.seed, out=args.out)
    print(accuracy_table(verdicts(answer_all(output, model, chat, task, news).path, task, news)))


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        main(arguments)
