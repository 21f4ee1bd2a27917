"""python -m newnews TOOL: studies and tools; `python -m newnews TOOL --help` explains each."""

import argparse
import sys

from newnews import probing
from newnews.protocols import NAMES


def arguments():
    parser = argparse.ArgumentParser(prog="python -m newnews", description=__doc__)
    tools = parser.add_subparsers(dest="tool", required=True, metavar="TOOL")
    run = tools.add_parser("run", help="run a study: write, train, ask, compare")
    run.add_argument("config", help="YAML of the study (configs/demo.yaml)")
    run.add_argument("--out", required=True, help="folder of the results; a second start goes on there")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                     help="change a key, e.g. news.split=dev")
    run.add_argument("--store", help="folder of the stages; studies that name the same one share what they "
                                     "have in common (default: OUT)")
    run.add_argument("--dry-run", action="store_true",
                     help="print the cells and an estimate of tokens, FLOPs, time and memory")
    report = tools.add_parser("report", help="make a study's table, picture and page again, from its raw "
                                              "files")
    report.add_argument("out", metavar="RUN", help="the folder that `run` wrote")
    answers = tools.add_parser("answers", help="one question of a study: what each cell answered")
    answers.add_argument("out", metavar="RUN", help="the folder that `run` wrote")
    answers.add_argument("question", help="id of a question, e.g. addiplication-1")
    facts = tools.add_parser("reversal", help="teach facts plainly and masked, ask forwards and backwards")
    facts.add_argument("config", help="YAML of the experiment (configs/reversal.yaml)")
    facts.add_argument("--out", required=True, help="folder of the results; a second start goes on there")
    facts.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                       help="change a key, e.g. train.steps=30")
    show = tools.add_parser("show", help="one worked example, from a news item to training tokens")
    show.add_argument("id", help="id of a news item, e.g. the first of data/pocket_news.yaml")
    show.add_argument("--protocol", default="self_qa",
                      help=f"{', '.join(NAMES)} (default: %(default)s)",
                      choices=NAMES, metavar="NAME")
    show.add_argument("--news", default="data/pocket_news.yaml",
                      help="where the item is (default: %(default)s)")
    show.add_argument("--model", default="data/pocket", help="the writer (default: %(default)s)")
    show.add_argument("--n", type=int, default=2, help="draws (default: %(default)s)")
    show.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    compare = tools.add_parser("compare", help="a model folder here and in transformers, layer by layer")
    compare.add_argument("--model", required=True, help="model folder or hub id")
    compare.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"), help="(default: %(default)s)")
    check = tools.add_parser("check", help="check news files: schema, and what the options give away")
    check.add_argument("news", nargs="+", metavar="PATH", help="YAML file or folder; several share no name")
    grade = tools.add_parser("grade", help="what a replay file about the pocket world says: true or false?")
    grade.add_argument("replay", help="replay file, JSONL")
    grade.add_argument("--news", required=True, metavar="PATH", help="the news that it is about, YAML")
    browse = tools.add_parser("browse", help="write news and questions as one page to read")
    browse.add_argument("news", metavar="PATH", help="YAML file or folder")
    browse.add_argument("--out", required=True, help="HTML file to write")
    export = tools.add_parser("export", help="write news as JSONL with a card, for `datasets` and a hub")
    export.add_argument("news", metavar="PATH", help="YAML file or folder; its dev/ is the validation split")
    export.add_argument("--out", required=True, help="folder to write")
    world = tools.add_parser("world", help="write news of the pocket world as YAML")
    world.add_argument("--out", required=True, help="file to write")
    world.add_argument("--split", default="dev", choices=("dev", "test"), help="(default: %(default)s)")
    world.add_argument("--per-domain", type=int, default=3, help="news a domain (default: %(default)s)")
    world.add_argument("--questions", type=int, default=10,
                       help="questions a news item, at most (default: %(default)s)")
    world.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    world.add_argument("--background", action="store_true",
                       help="write what everybody knows as multiple choice (JSONL) instead (default: news)")
    retain = tools.add_parser("retain", help="what an update cost: two answers files, item by item")
    retain.add_argument("before", metavar="BEFORE", help="answers that evaluate.py wrote (JSONL)")
    retain.add_argument("after", metavar="AFTER", help="those of the updated model to the same questions")
    retain.add_argument("--data", required=True, metavar="PATH", help="the data that were asked")
    retain.add_argument("--task", metavar="NAME", help="their task (default: what BEFORE says)")
    retain.add_argument("--all", action="store_true", help="list every answer that flipped (default: 20)")
    probing.add_parsers(tools)
    return parser.parse_args()


def print_summary(summary, done):
    from newnews.studies.page import write_report
    from newnews.studies.report import draw, table
    out = done.out
    print(table(summary))
    try:
        draw(summary, f"{out}/accuracy.png")
        print(f"{out}/accuracy.png, {out}/summary.json")
    except ImportError:
        print(f"{out}/summary.json (no picture: matplotlib is missing, pip install -e '.[plots]')")
    write_report(done, summary)
    print(f"{out}/report.html, {out}/figures")


def print_answers(done, name=None):
    """One question of a study, by default the first, and what every cell answered to it."""
    from newnews.studies.report import walk
    questions = {q.id: q for item in done.items for q in item.questions}
    name = name or next(iter(questions))
    rows = done.walk(name)
    others = {q.id: q.right for item in done.news.get("counterfactual", []) for q in item.questions}
    print(walk(questions[name], rows, others.get(name)))


def main(args):
    if args.tool == "run":
        from newnews.console import say
        from newnews.studies.grid import grid_in_words, read_study
        from newnews.studies.page import check_report
        from newnews.studies.study import run_study
        from newnews.studies.summary import Finished
        check_report(args.out)
        study = read_study(args.config, args.set)
        say(study=args.config, model=study["model"], news=study["news"], cells=grid_in_words(study),
            out=args.out)
        if args.dry_run:
            from newnews.studies.plan import plan
            print(plan(study, args.out, args.store))
            return 0
        summary = run_study(study, args.out, args.store)
        if summary is None:                 # torchrun's other processes
            return
        done = Finished(args.out)
        print_summary(summary, done)
        if summary["news"] <= 10:           # own news: one reads replies before one reads a table
            print()
            print_answers(done)
            print(f"Other questions: python -m newnews answers {args.out} ID")
    elif args.tool == "report":
        from model.files import read_json
        from newnews.outputs import write_json
        from newnews.provenance import provenance
        from newnews.studies.summary import Finished, summarise
        done = Finished(args.out)
        summary = {**summarise(done), **provenance(),
                   "threads": read_json(f"{args.out}/study.json").get("threads")}   # nothing is computed here
        write_json(f"{args.out}/summary.json", summary)
        print_summary(summary, done)
    elif args.tool == "answers":
        from newnews.studies.summary import Finished
        print_answers(Finished(args.out), args.question)
    elif args.tool == "reversal":
        from newnews.reversal import reversal, table
        print(f"{table(reversal(args.config, args.out, args.set))}\n{args.out}/reversal.json")
    elif args.tool == "show":
        from newnews.show import show
        for name, low, high in (("n", 1, 10 ** 6), ("seed", 0, 2 ** 63 - 1)):
            if not low <= getattr(args, name) <= high:
                raise ValueError(f"--{name} {getattr(args, name)}: expected at least {low}, at most {high}")
        show(args.model, args.id, args.protocol, args.news, args.n, args.seed, sys.stdout.isatty())
    elif args.tool == "compare":
        from newnews.compare import compare
        return 0 if compare(args.model, args.dtype) else 1
    elif args.tool == "check":
        from newnews.check import check
        text, fine = check(args.news)
        print(text)
        return 0 if fine else 1
    elif args.tool == "grade":
        from newnews.news import read_news
        from newnews.world.oracle import grade_replay
        print(grade_replay(args.replay, read_news(args.news)))
    elif args.tool == "browse":
        from newnews.browse import browse
        print(f"{args.out}: {browse(args.news, args.out)} news")
    elif args.tool == "export":
        from newnews.export import export
        for split, (news, questions) in export(args.news, args.out).items():
            print(f"{args.out}/{split}.jsonl: {news} news, {questions} questions")
    elif args.tool == "retain":
        from newnews.studies.retain import SHOWN, report, retain
        print(report(retain(args.before, args.after, args.data, args.task), 10 ** 9 if args.all else SHOWN))
    elif args.tool in ("probe", "chat"):
        probing.run(args)
    elif args.background:
        for name, default in (("split", "dev"), ("per_domain", 3), ("questions", 10)):
            if getattr(args, name) != default:
                raise ValueError(f"--{name.replace('_', '-')} is about news; "
                                 f"with --background it does nothing")
        from newnews.outputs import check_new
        from newnews.world.retention import write_background
        print(f"{args.out}: {write_background(check_new(args.out), args.seed)} questions")
    else:
        from newnews.news import write_news
        from newnews.outputs import check_new
        from newnews.world.things import make_news
        write_news(check_new(args.out), make_news(args.split, args.per_domain, args.seed, args.questions))


if __name__ == "__main__":
    arguments = arguments()
    from newnews.console import user_errors
    with user_errors():
        sys.exit(main(arguments))
