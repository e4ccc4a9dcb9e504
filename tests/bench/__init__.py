"""Benchmarks: what `stockhelper` costs, beside what a user would pick instead. Not tests: nothing here passes or fails.

cases      what is measured, as data
stages     where: projects of their own on the real engine, and what is done to them
floor      the least that the same work can cost: a bare script on the Docker SDK
measure    how: each way in turn, several rounds, medians and their ratios
report     the table and the JSON
picture    the same as an SVG, for the README
"""
