"""What one does after the tutorial, one file each."""
