"""Reading the artefacts back: tables, figures and the report page. Nothing here is imported by another room."""

import logging

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # (before matplotlib) where it keeps its fonts is no result
