"""Makes pages that show what was seen inside a model. Imports no torch: a page is made of stored files."""
