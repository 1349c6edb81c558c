"""What `fastlstm bench` runs: the grid of sizes, the engines that are compared, and the measuring itself."""
