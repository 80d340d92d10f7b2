"""Check that the rows of the model in the box are about nothing that is kept for tests; status 1 where some are.

    python datasets_scripts/check_box_corpus.py box/rows.jsonl --facts corpus/facts.jsonl --facts real/facts.jsonl
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from box_corpus.leaks import describe_kept, find_leaks, read_lines  # noqa: E402


def main() -> int:
    """Print what was looked at, and every leak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="what datasets_scripts/make_box_corpus.py writes")
    parser.add_argument("--facts", type=Path, action="append", default=[], help="those that the rows are made from")
    args = parser.parse_args()
    rows = read_lines(args.rows)
    found = find_leaks(rows, [record for path in args.facts for record in read_lines(path)])
    print(describe_kept())
    looked_at = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.looked_at.items()))
    print(f"{len(rows):,} rows, clips: {looked_at}")
    print("\n".join(found.leaks) or "no leaks")
    return 1 if found.leaks else 0


if __name__ == "__main__":
    sys.exit(main())
