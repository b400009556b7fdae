"""What of training needs torch, which is imported when a run begins."""
