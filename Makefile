# make demo: the whole way on the embedded pocket model. make test: the tests. Both set up .venv first, once.

PYTHON ?= python3

.PHONY: setup demo test

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[plots,retention,test]"
	touch $@

demo: setup
	.venv/bin/python -m newnews run configs/demo.yaml --out runs/demo

test: setup
	.venv/bin/python -m pytest
