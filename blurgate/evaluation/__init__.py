"""What `blurgate evaluate` and `blurgate calibrate` measure; heavy imports wait for their modules."""
