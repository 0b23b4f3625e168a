"""Composes and renders a report: Markdown, HTML, JSON, CSV."""
