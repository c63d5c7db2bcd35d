"""What the site holds that is read from the code: commands, keys, files, messages; and formulas."""
