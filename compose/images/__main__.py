"""``python -m compose.images``: build the images, measure them, or write their locks."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from compose.images.build import BASE_IMAGE, About, build
from compose.images.collector import build_collector
from compose.images.engine import check_engine
from compose.images.errors import ImageError
from compose.images.locks import write_locks
from compose.images.sizes import measure, table
from compose.images.table import IMAGES, Image
from compose.images.tested import ids_of, note, record_file


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Do one of them.

    Args:
        argv: arguments, without the program's name; None for the process's own.
        say: where results go.

    Returns:
        0 done, 1 failed or too large, 2 the arguments are wrong.
    """
    asked = _parser().parse_args(argv)
    try:
        return int(asked.does(asked, say))
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m compose.images", description=__doc__)
    commands = parser.add_subparsers(required=True)
    building = commands.add_parser("build", help="build images, all unless some are named, and measure them")
    measuring = commands.add_parser("sizes", help="measure images; fails where one is above its bound")
    for command, does in ((building, _build), (measuring, _sizes)):
        command.set_defaults(does=does)
        command.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(IMAGES)}")
        command.add_argument("--version", default="", help="their version and tag; the package's unless given")
        command.add_argument("--base", default=BASE_IMAGE, help="the image they stand on (%(default)s)")
    building.add_argument(
        "--ca",
        type=Path,
        default=os.environ.get("SSL_CERT_FILE"),
        help="a bundle of authorities to trust the index of packages by; SSL_CERT_FILE unless given",
    )
    building.add_argument("--no-cache", action="store_true", help="build every layer anew")
    collecting = commands.add_parser("collector", help="build the image of the collector, for staging and production")
    collecting.set_defaults(does=_collector)
    collecting.add_argument("--base", default=BASE_IMAGE, help="the image it stands on (%(default)s)")
    testing = commands.add_parser("tested", help="write down that images were tested: `tekup deploy` takes no others")
    testing.set_defaults(does=_tested)
    testing.add_argument("--version", default="latest", help="their tag (%(default)s)")
    testing.add_argument("--record", type=Path, default=record_file(), help="the file (%(default)s)")
    commands.add_parser("lock", help="write the images' locks from requirements.lock").set_defaults(does=_lock)
    return parser


def _chosen(names: Sequence[str]) -> list[Image]:
    if unknown := [name for name in names if name not in IMAGES]:
        raise ImageError(f"there is no image {', '.join(unknown)}; there are {', '.join(IMAGES)}")
    return [IMAGES[name] for name in names or IMAGES]


def _build(asked: argparse.Namespace, say: Callable[[str], None]) -> int:
    images, about = _chosen(asked.names), About.of_checkout(asked.version)
    check_engine()
    began = time.monotonic()
    build(images, about, base=asked.base, ca=asked.ca, cached=not asked.no_cache)
    say(f"built {about.version} in {time.monotonic() - began:.0f} s")
    return _sizes(asked, say)


def _sizes(asked: argparse.Namespace, say: Callable[[str], None]) -> int:
    images, tag = _chosen(asked.names), About.of_checkout(asked.version).version
    check_engine()
    sizes = [measure(image, tag, asked.base) for image in images]
    say(table(sizes))
    return 1 if any(size.too_large for size in sizes) else 0


def _collector(asked: argparse.Namespace, say: Callable[[str], None]) -> int:
    check_engine()
    say(f"built {build_collector(asked.base)}")
    return 0


def _tested(asked: argparse.Namespace, say: Callable[[str], None]) -> int:
    check_engine()
    note(ids_of(asked.version), asked.record)
    say(f"images {asked.version} are tested, says {asked.record}")
    return 0


def _lock(_asked: argparse.Namespace, _say: Callable[[str], None]) -> int:
    write_locks()
    return 0


if __name__ == "__main__":
    sys.exit(main())
