%% A lease of a pool that a node serves. Nothing but its holder's client and the server look into it.
-define(LEASE(Node), {'$sockpool_lease', Node, _, _}).
-define(LEASE(Node, Incarnation, Number), {'$sockpool_lease', Node, Incarnation, Number}).
