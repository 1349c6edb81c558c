"""What `fastlstm bench --grid stream` measures: steps of one row, the state kept in between; how long they take, how evenly."""
