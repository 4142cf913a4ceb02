"""What every reader of files that strangers made goes through: bounds, texts, zips, pickles."""
