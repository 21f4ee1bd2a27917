r"""Ask a model the questions of news items, closed book or with the news in context.

    python evaluate.py --model data/pocket --news data/pocket_news.yaml --out answers.jsonl
    python evaluate.py --model data/pocket --adapter runs/adapter --news data/pocket_news.yaml \
    --in-context --out answers.jsonl

Three formats: by letter, by option text (log-probabilities, raw and per byte), and free form. A line of
OUT is one question with every option's log-probability; the table on stdout has 95% intervals,
clustered by news item.
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
    from newnews.answers import answer_all, table
    from newnews.console import say
    from newnews.loading import load
    from newnews.news import check_asked, read_news
    from newnews.outputs import Rows, digest
    from newnews.prompts import prompts_for, read_prompts

    news = read_news(args.news)
    check_asked(news)
    model, chat, about = load(args.model, args.adapter, args.device, args.dtype)
    prompts = read_prompts(args.prompts) if args.prompts else prompts_for(about["folder"])
    run = {"model": about["model"], "model_digest": about["digest"], "adapter": about.get("adapter"),
           "dtype": about["dtype"], "in_context": args.in_context, "seed": args.seed,
           "prompts": prompts.digest,
           "news": digest([[item.id, item.statement,
                            [[q.id, q.text, q.options, q.answer, q.ask, q.accept] for q in item.questions]]
                           for item in news])}
    output = Rows(args.out, run)
    say(**about, news=f"{len(news)} from {args.news}",
        asked="in context" if args.in_context else "closed book", seed=args.seed, out=args.out)
    print(table(answer_all(output, model, chat, prompts, news, args.in_context, args.seed).read()))


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        main(arguments)
