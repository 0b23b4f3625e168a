"""Archives, retains, bundles and imports whole experiments."""
