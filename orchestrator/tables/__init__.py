"""Tables of results: jobs as dotted values, selected, grouped and averaged. Pure, no drawing."""
