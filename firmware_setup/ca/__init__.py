"""The lab's certificate authority: files in a folder that one person keeps; nothing is served."""
