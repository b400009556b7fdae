"""Mail: messages, one a file or many."""
