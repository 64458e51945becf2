"""`python -m services.browser.egress`: the egress proxy as a process of its own."""

from services.browser.egress.process import main

if __name__ == "__main__":
    main()
