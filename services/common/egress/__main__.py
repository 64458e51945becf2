"""`python -m services.common.egress`: the egress proxy as a process of its own."""

from services.common.egress.process import main

if __name__ == "__main__":
    main()
