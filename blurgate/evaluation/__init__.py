"""What `blurgate evaluate` and `blurgate calibrate` measure; heavy imports wait in its modules."""
