"""What `fastlstm demo` runs: a real series, two layers trained in turn on it, and the report of what came out."""
