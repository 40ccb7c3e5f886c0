"""What this machine keeps of a vault: its journal, its blocks, and what is still owed to suppliers."""
