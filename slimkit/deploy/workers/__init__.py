"""Scripts that run in a process of their own, beside a native runtime that may abort. Standard library and
numpy only, Python 3.8 syntax: the Paddle-Lite worker runs in another interpreter, without slimkit."""
