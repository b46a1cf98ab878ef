"""Reading the artefacts back: tables, figures and the report page. Nothing here is imported by another room."""
