"""A hook of the documentation site: links to files outside docs/ lead to the repository.

On GitHub, a page links to `../ocr.ipynb` or `../SECURITY.md`. The site does not contain these
files, so the link is rewritten to the file's address in the repository. A link to a file that
does not exist fails the build, in the pages and in the Markdown files outside docs/.
"""

import logging
import re
from pathlib import Path

PROJECT = Path(__file__).absolute().parent.parent
OTHER_PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/RESULTS.md")
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
log = logging.getLogger("mkdocs.hooks.links")


def on_page_markdown(markdown, page, config, **_):
    """Rewrites the links of a page that leave docs/."""
    folder = Path(page.file.abs_src_path).parent

    def rewrite(match):
        target = (folder / match[1]).resolve()
        if target.is_relative_to(config.docs_dir):
            return match[0]  # ProperDocs checks these itself
        if not target.exists():
            log.warning("%s links to %s, which does not exist", page.file.src_path, match[1])
        path = target.relative_to(PROJECT).as_posix()
        return f"{config.repo_url.rstrip('/')}/blob/main/{path}{match[2] or ''}"

    return LINK.sub(rewrite, markdown)


def on_pre_build(**_):
    """Checks the links of the Markdown files outside docs/."""
    for name in OTHER_PAGES:
        file = PROJECT / name
        for target, _anchor in LINK.findall(file.read_text(encoding="utf-8")):
            if not (file.parent / target).exists():
                log.warning("%s links to %s, which does not exist", name, target)
