%% A lease of a pool that a node serves. Nothing but its holder's client and the server look into it.
-define(LEASE(Node), {'$sockpool_lease', Node, _, _}).
-define(LEASE(Node, Incarnation, Number), {'$sockpool_lease', Node, Incarnation, Number}).
%% A leased connection to a node; sockpool_node_conn's.
-define(NODE_CONN(Reader), {'$sockpool_node', Reader, _, _, _, _}).
-define(NODE_CONN(Reader, Node, Identity, Counters, Max),
        {'$sockpool_node', Reader, Node, Identity, Counters, Max}).
