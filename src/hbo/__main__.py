"""`python -m hbo`, so that torchrun and accelerate can launch the command line."""

from hbo.cli import main

if __name__ == "__main__":
    main()
