"""Lets runipy 0.1.5 build on Python 3.12 and later.

Its setup.py uses two names of configparser that Python 3.12 removed. With this folder on PYTHONPATH, Python
imports this file at its start and the names are back. runipy itself does not need them.
"""

import configparser

configparser.SafeConfigParser = configparser.ConfigParser
configparser.ConfigParser.readfp = configparser.ConfigParser.read_file
