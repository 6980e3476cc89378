"""HTML pages about data that need nothing beside them: they load nothing and run no script."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import jinja2

from data_pipelines.words import shown


def rendered_page(template: str, values: Mapping[str, Any]) -> str:
    """The page that a template of this package makes of the values; every value is escaped."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("data_pipelines", ""),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return templates.get_template(template).render({"written": written, **values})
