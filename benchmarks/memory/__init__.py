"""What fine-tuning runs really reserve on a GPU, and what the lab's estimate says of them."""
