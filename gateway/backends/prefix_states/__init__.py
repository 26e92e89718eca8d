"""What llama.cpp has computed of long prompts that come again, kept on disk: saved, found, and put back into a slot."""
