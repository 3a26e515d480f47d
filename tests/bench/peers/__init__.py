"""Consumers of SQS that others maintain, each written as its documentation recommends."""
