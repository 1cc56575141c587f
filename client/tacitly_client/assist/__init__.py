"""What the person gets back: suggestions on their own machine from the model they helped to learn.

recurrent.py   the released model's forward step in numpy: no torch in a process that suggests
head.py        this person's own counts, mixed in; in memory alone, gone with the process
words.py       the closed list of public words as a tree, and the word that is being typed
suggester.py   next key, next word, next action
history.py     this person's tokens, read from the store
savings.py     what it would have saved this person, on events nobody learned from
terminal.py    `tacitly-agent suggest`

Nothing here opens a socket, and the process on the network cannot import it (pyproject.toml).
"""
