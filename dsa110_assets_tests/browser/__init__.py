"""The pages in a real browser: `make browser`. It is apart from the default suite.

Playwright keeps an event loop running, and other tests need one of their own.
"""
