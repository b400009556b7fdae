"""What of a reader's training needs torch, which is imported when a run begins."""
