"""`python -m services.search`: one instance."""

if __name__ == "__main__":  # imports too: a process that divides files loads this module, and needs none of them
    from services.common import run
    from services.search.service import SPEC

    run(SPEC)
