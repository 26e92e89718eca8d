"""What a prompt asks in words, apart from all else that its answer depends on."""
