"""Both tasks fully labelled: does any way of joining two networks on frozen features beat two apart?"""
