"""What Tacitly costs in time, memory and bytes, beside stock Flower and Opacus: `make bench`."""
