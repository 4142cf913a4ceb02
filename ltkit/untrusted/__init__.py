"""What every reader of untrusted files uses: limits, texts, zips, pickles."""
