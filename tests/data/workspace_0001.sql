-- A workspace of schema version 1, as the version of that day left it (drill, and two kinds of tests/attempt/test_inputs.py).
BEGIN TRANSACTION;
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE artifacts (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	type VARCHAR NOT NULL, 
	path VARCHAR NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	bytes INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	created_at DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (run_id, name), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "artifacts" VALUES(1,10,'words','text','outputs/source/10/words.json','45fc40bc2d2dd3abf52aef20166cdf7ef20046124e2ddcb2638cbe77c0aa17cc',41,1,1.79580491338738703734e+09);
CREATE TABLE attempts (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	outcome VARCHAR, 
	reason VARCHAR, 
	started_at DOUBLE NOT NULL, 
	finished_at DOUBLE, 
	worker_id INTEGER NOT NULL, 
	lease VARCHAR NOT NULL, 
	boot_id VARCHAR NOT NULL, 
	pid INTEGER, 
	pid_start INTEGER, 
	log VARCHAR NOT NULL, 
	adjusted JSON, 
	resumed_from_step INTEGER, 
	last_step INTEGER, 
	environment_id INTEGER, 
	"commit" VARCHAR, 
	dirty BOOLEAN, 
	patch VARCHAR, 
	sources_hash VARCHAR, 
	packages_hash VARCHAR, 
	peak_memory_gib DOUBLE, 
	telemetry JSON, 
	PRIMARY KEY (id), 
	UNIQUE (run_id, number), 
	CONSTRAINT a_known_ending CHECK (outcome IN ('succeeded', 'failed', 'cancelled', 'out_of_memory', 'diverged', 'timed_out', 'pruned', 'crashed', 'interrupted', 'disk_full')), 
	CONSTRAINT ended_has_an_outcome CHECK ((outcome IS NULL) = (finished_at IS NULL)), 
	FOREIGN KEY(run_id) REFERENCES runs (id), 
	FOREIGN KEY(worker_id) REFERENCES workers (id), 
	FOREIGN KEY(environment_id) REFERENCES environments (id)
);
INSERT INTO "attempts" VALUES(1,1,1,'succeeded',NULL,1.79580490620901942248e+09,1.79580490731838512421e+09,1,'00000000-0000-4000-8000-000000000001 13805.521 1795804926.211','00000000-0000-4000-8000-000000000001',21402,1378548,'outputs/swept/1/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(2,2,1,'succeeded',NULL,1.79580490737635588638e+09,1.79580490748699045182e+09,1,'00000000-0000-4000-8000-000000000001 13806.687 1795804927.377','00000000-0000-4000-8000-000000000001',21407,1378557,'outputs/swept/2/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(3,3,1,'succeeded',NULL,1.79580490752058839799e+09,1.7958049089423594475e+09,1,'00000000-0000-4000-8000-000000000001 13806.831 1795804927.521','00000000-0000-4000-8000-000000000001',21418,1378676,'outputs/swept/3/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(4,4,1,'succeeded',NULL,1.79580490897173166275e+09,1.79580490913155388834e+09,1,'00000000-0000-4000-8000-000000000001 13808.283 1795804928.973','00000000-0000-4000-8000-000000000001',21424,1378690,'outputs/swept/4/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(5,5,1,'succeeded',NULL,1.7958049091624326706e+09,1.79580491048273181917e+09,1,'00000000-0000-4000-8000-000000000001 13808.474 1795804929.164','00000000-0000-4000-8000-000000000001',21434,1378831,'outputs/swept/5/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(6,6,1,'succeeded',NULL,1.79580491050462126732e+09,1.79580491074740076062e+09,1,'00000000-0000-4000-8000-000000000001 13809.816 1795804930.505','00000000-0000-4000-8000-000000000001',21442,1378848,'outputs/swept/6/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(7,7,1,'failed','RuntimeError: the drill raises at step 1, as asked',1.79580491080696725844e+09,1.79580491171484804158e+09,1,'00000000-0000-4000-8000-000000000001 13810.118 1795804930.808','00000000-0000-4000-8000-000000000001',21452,1378983,'outputs/fails/7/attempt-1.log',NULL,NULL,NULL,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(8,8,1,'diverged','value is not finite at step 3 (last finite at step 2)',1.79580491173878836631e+09,1.79580491224711036681e+09,1,'00000000-0000-4000-8000-000000000001 13811.050 1795804931.739','00000000-0000-4000-8000-000000000001',21460,1379024,'outputs/diverges/8/attempt-1.log',NULL,NULL,2,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(9,9,1,'crashed','died of exit status 3',1.79580491228497648244e+09,1.79580491274602460863e+09,1,'00000000-0000-4000-8000-000000000001 13811.596 1795804932.286','00000000-0000-4000-8000-000000000001',21473,1379109,'outputs/crashes/9/attempt-1.log',NULL,NULL,NULL,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(10,10,1,'succeeded',NULL,1.79580491276581454278e+09,1.79580491339297580724e+09,1,'00000000-0000-4000-8000-000000000001 13812.082 1795804932.772','00000000-0000-4000-8000-000000000001',21479,1379171,'outputs/source/10/attempt-1.log',NULL,NULL,NULL,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(11,11,1,'succeeded',NULL,1.7958049162135176659e+09,1.7958049170952291489e+09,2,'00000000-0000-4000-8000-000000000001 13815.535 1795804936.224','00000000-0000-4000-8000-000000000001',21505,1379547,'outputs/taker/11/attempt-1.log',NULL,NULL,NULL,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(12,12,1,'succeeded',NULL,1.79580491713854837419e+09,1.79580491746099185938e+09,2,'00000000-0000-4000-8000-000000000001 13816.450 1795804937.139','00000000-0000-4000-8000-000000000001',21510,1379558,'outputs/searched/12/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(13,13,1,'succeeded',NULL,1.79580491754168295858e+09,1.79580491860317444799e+09,2,'00000000-0000-4000-8000-000000000001 13816.852 1795804937.542','00000000-0000-4000-8000-000000000001',21518,1379647,'outputs/searched/13/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(14,14,1,'succeeded',NULL,1.79580491862386202811e+09,1.79580491903806233403e+09,2,'00000000-0000-4000-8000-000000000001 13817.935 1795804938.625','00000000-0000-4000-8000-000000000001',21527,1379687,'outputs/searched/14/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(15,15,1,'succeeded',NULL,1.79580491906019377706e+09,1.79580492019915819172e+09,2,'00000000-0000-4000-8000-000000000001 13818.371 1795804939.061','00000000-0000-4000-8000-000000000001',21536,1379795,'outputs/searched/15/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(16,16,1,'succeeded',NULL,1.79580492202830171587e+09,1.79580492313616704941e+09,3,'00000000-0000-4000-8000-000000000001 13821.340 1795804942.030','00000000-0000-4000-8000-000000000001',21576,1380130,'outputs/old_idea/16/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(17,17,1,'succeeded',NULL,1.79580492600692152981e+09,1.79580492750719928739e+09,4,'00000000-0000-4000-8000-000000000001 13825.319 1795804946.009','00000000-0000-4000-8000-000000000001',21597,1380529,'outputs/swept/17/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(18,18,1,'succeeded',NULL,1.79580492755394721029e+09,1.79580492773892354966e+09,4,'00000000-0000-4000-8000-000000000001 13826.865 1795804947.555','00000000-0000-4000-8000-000000000001',21602,1380536,'outputs/swept/18/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(19,19,1,'succeeded',NULL,1795804927.77537,1.79580492881890821455e+09,4,'00000000-0000-4000-8000-000000000001 13827.086 1795804947.776','00000000-0000-4000-8000-000000000001',21611,1380688,'outputs/swept/19/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(20,26,1,'failed','RuntimeError: the drill raises at step 1, as asked',1.79580493334744071957e+09,1.79580493496484589572e+09,5,'00000000-0000-4000-8000-000000000001 13832.660 1795804953.350','00000000-0000-4000-8000-000000000001',21639,1381261,'outputs/rehearsed_preflight/26/attempt-1.log',NULL,NULL,NULL,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(21,29,1,'interrupted','paused by a person',1.79580494435347270965e+09,1.79580494725233554844e+09,6,'00000000-0000-4000-8000-000000000001 13843.676 1795804964.366','00000000-0000-4000-8000-000000000001',21673,1382364,'outputs/slow/29/attempt-1.log',NULL,NULL,61,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(22,34,1,'succeeded',NULL,1.79580494733203506474e+09,1.79580494769944763178e+09,6,'00000000-0000-4000-8000-000000000001 13846.643 1795804967.333','00000000-0000-4000-8000-000000000001',21678,1382370,'outputs/paused_one/34/attempt-1.log',NULL,NULL,4,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(23,36,1,'crashed','died of exit status 3',1.79580494956362485886e+09,1.79580495014964985848e+09,6,'00000000-0000-4000-8000-000000000001 13848.875 1795804969.565','00000000-0000-4000-8000-000000000001',21758,1382670,'outputs/retries/36/attempt-1.log',NULL,NULL,NULL,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(24,36,2,'crashed','died of exit status 3',1.79580495218290853501e+09,1795804952.50978,6,'00000000-0000-4000-8000-000000000001 13851.494 1795804972.184','00000000-0000-4000-8000-000000000001',21776,1382899,'outputs/retries/36/attempt-2.log',NULL,NULL,NULL,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
INSERT INTO "attempts" VALUES(25,37,1,NULL,NULL,1.79580495259190058704e+09,NULL,6,'00000000-0000-4000-8000-000000000001 13851.903 1795804972.593','00000000-0000-4000-8000-000000000001',21788,1383157,'outputs/computes/37/attempt-1.log',NULL,NULL,NULL,1,'0000000000000000000000000000000000000001',0,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',NULL,NULL);
CREATE TABLE checkpoints (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	path VARCHAR NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	bytes INTEGER NOT NULL, 
	created_at DOUBLE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (run_id, step), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "checkpoints" VALUES(1,8,1,2,'outputs/diverges/8/checkpoints/step-2-attempt-1','95e0511d432aa88cad6574f24fdbfe8b4a890e9b7110114b196a336560ecaf0b',7371,1.79580491223081374161e+09);
INSERT INTO "checkpoints" VALUES(13,29,1,60,'outputs/slow/29/checkpoints/step-60-attempt-1','080c89ce61d5089eb294e8a0226dc1dda38476c35549c8ba9cee1a83357b054e',7374,1.79580494716745471951e+09);
INSERT INTO "checkpoints" VALUES(14,29,1,61,'outputs/slow/29/checkpoints/step-61-attempt-1','f30f05d60ee0dd137f1c6b1fb63d8e31442c14a16f1ba050292840ac088d5b6d',7389,1.79580494721126461034e+09);
INSERT INTO "checkpoints" VALUES(15,37,1,5,'outputs/computes/37/checkpoints/step-5-attempt-1','64993731d67a6182b35e3d297eb1d050a8bfcd0e4da62c9e77cb12d59314ef6e',7388,1.79580495477889943121e+09);
CREATE TABLE controls (
	"key" VARCHAR NOT NULL, 
	value JSON NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "controls" VALUES('search:7','{"device":"cpu","ended":"all_recorded","experiment":"searched","force":false,"seeds":1,"trials":4,"why":"all 4 trials are recorded"}');
INSERT INTO "controls" VALUES('search:10','{"device":"cpu","ended":"budget","experiment":"ended_early","force":false,"seeds":1,"trials":6,"why":"the budget of 1 h ended first"}');
INSERT INTO "controls" VALUES('pause:paused_whole','{"reason":"by a person","until":"forever"}');
CREATE TABLE environments (
	id INTEGER NOT NULL, 
	hash VARCHAR NOT NULL, 
	data JSON NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (hash)
);
INSERT INTO "environments" VALUES(1,'c9fc595f53063489d98b0a8acc868a765ed6f89afabb62521e6560185b17b0c7','{"python":"3.11.7"}');
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	run_id INTEGER, 
	kind VARCHAR NOT NULL, 
	text VARCHAR NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "events" VALUES(1,1.79580490731838512421e+09,1,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(2,1.79580490748699045182e+09,2,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(3,1.7958049089423594475e+09,3,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(4,1.79580490913155388834e+09,4,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(5,1.79580491048273181917e+09,5,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(6,1.79580491074740076062e+09,6,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(7,1.79580491171484804158e+09,7,'failed','attempt 1 failed, finished: RuntimeError: the drill raises at step 1, as asked');
INSERT INTO "events" VALUES(8,1.79580491224711036681e+09,8,'diverged','attempt 1 diverged, finished: value is not finite at step 3 (last finite at step 2)');
INSERT INTO "events" VALUES(9,1.79580491274602460863e+09,9,'crashed','attempt 1 crashed, finished: died of exit status 3');
INSERT INTO "events" VALUES(10,1.79580491339297580724e+09,10,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(11,1.7958049152814371586e+09,NULL,'search','the search of searched (job 7) proposes no more: all 4 trials are recorded');
INSERT INTO "events" VALUES(12,1.79580491706908893585e+09,11,'input','params.source is artifact words of run 10 (source), SHA-256 45fc40bc2d2dd3abf52aef20166cdf7ef20046124e2ddcb2638cbe77c0aa17cc');
INSERT INTO "events" VALUES(13,1.7958049170952291489e+09,11,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(14,1.79580491746099185938e+09,12,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(15,1.79580491860317444799e+09,13,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(16,1.79580491903806233403e+09,14,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(17,1.79580492019915819172e+09,15,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(18,1.79580492313616704941e+09,16,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(19,1.79580492382776236537e+09,NULL,'archive','old_idea: archived by a person');
INSERT INTO "events" VALUES(20,1.79580492750719928739e+09,17,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(21,1.79580492773892354966e+09,18,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(22,1.79580492881890821455e+09,19,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(23,1.79580493025430440899e+09,NULL,'search','the search of ended_early (job 10) proposes no more: all 6 trials are recorded');
INSERT INTO "events" VALUES(24,1.79580493060960507387e+09,NULL,'search','the search of ended_early (job 10) proposes no more: the budget of 1 h ended first');
INSERT INTO "events" VALUES(25,1.79580493061183714864e+09,20,'pruned','the search ended before its turn: the budget of 1 h ended first');
INSERT INTO "events" VALUES(26,1.79580493061183714864e+09,21,'pruned','the search ended before its turn: the budget of 1 h ended first');
INSERT INTO "events" VALUES(27,1.79580493061183714864e+09,22,'pruned','the search ended before its turn: the budget of 1 h ended first');
INSERT INTO "events" VALUES(28,1.79580493061183714864e+09,23,'pruned','the search ended before its turn: the budget of 1 h ended first');
INSERT INTO "events" VALUES(29,1.79580493061183714864e+09,24,'pruned','the search ended before its turn: the budget of 1 h ended first');
INSERT INTO "events" VALUES(30,1.79580493061183714864e+09,25,'pruned','the search ended before its turn: the budget of 1 h ended first');
INSERT INTO "events" VALUES(31,1.79580493496484589572e+09,26,'failed','attempt 1 failed, finished: RuntimeError: the drill raises at step 1, as asked');
INSERT INTO "events" VALUES(32,1.79580494240627908707e+09,31,'pause','paused by a person');
INSERT INTO "events" VALUES(33,1.79580494240627908707e+09,32,'pause','paused by a person');
INSERT INTO "events" VALUES(34,1.79580494329299783702e+09,33,'pause','paused by a person');
INSERT INTO "events" VALUES(35,1.79580494698458027844e+09,29,'pause','paused by a person');
INSERT INTO "events" VALUES(36,1.79580494725233554844e+09,29,'interrupted','attempt 1 interrupted, queued again: paused by a person');
INSERT INTO "events" VALUES(37,1.79580494769944763178e+09,34,'succeeded','attempt 1 succeeded, finished');
INSERT INTO "events" VALUES(38,1.79580495014964985848e+09,36,'crashed','attempt 1 crashed, queued again: died of exit status 3');
INSERT INTO "events" VALUES(39,1795804952.50978,36,'crashed','attempt 2 crashed, queued again: died of exit status 3');
CREATE TABLE experiments (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR NOT NULL, 
	created_at DOUBLE NOT NULL, 
	archived_at DOUBLE, 
	UNIQUE (name)
);
INSERT INTO "experiments" VALUES(1,'swept',1.79580490061767816542e+09,NULL);
INSERT INTO "experiments" VALUES(2,'fails',1.79580490171059036254e+09,NULL);
INSERT INTO "experiments" VALUES(3,'diverges',1.79580490280726456637e+09,NULL);
INSERT INTO "experiments" VALUES(4,'crashes',1.79580490399273037913e+09,NULL);
INSERT INTO "experiments" VALUES(5,'source',1.79580490512581801413e+09,NULL);
INSERT INTO "experiments" VALUES(6,'taker',1.79580491428716301923e+09,NULL);
INSERT INTO "experiments" VALUES(7,'searched',1.79580491527293157573e+09,NULL);
INSERT INTO "experiments" VALUES(8,'old_idea',1.79580492095902156824e+09,1.79580492382717132569e+09);
INSERT INTO "experiments" VALUES(10,'ended_early',1.79580493023554229733e+09,NULL);
INSERT INTO "experiments" VALUES(11,'rehearsed_preflight',1.79580493192316317557e+09,NULL);
INSERT INTO "experiments" VALUES(12,'rehearsed',1.79580493193365025523e+09,NULL);
INSERT INTO "experiments" VALUES(13,'slow',1.79580493672748541834e+09,NULL);
INSERT INTO "experiments" VALUES(14,'follows',1.79580493789634370802e+09,NULL);
INSERT INTO "experiments" VALUES(15,'paused_whole',1.79580493910057854651e+09,NULL);
INSERT INTO "experiments" VALUES(16,'paused_one',1.7958049402847440243e+09,NULL);
INSERT INTO "experiments" VALUES(17,'too_large',1.79580494145457839963e+09,NULL);
INSERT INTO "experiments" VALUES(18,'retries',1.79580494942516446111e+09,NULL);
INSERT INTO "experiments" VALUES(19,'computes',1.79580495206307363511e+09,NULL);
CREATE TABLE job_runs (
	job_id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	reused BOOLEAN NOT NULL, 
	PRIMARY KEY (job_id, run_id), 
	FOREIGN KEY(job_id) REFERENCES jobs (id), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
)
 WITHOUT ROWID

;
INSERT INTO "job_runs" VALUES(1,1,0,0);
INSERT INTO "job_runs" VALUES(1,2,1,0);
INSERT INTO "job_runs" VALUES(1,3,2,0);
INSERT INTO "job_runs" VALUES(1,4,3,0);
INSERT INTO "job_runs" VALUES(1,5,4,0);
INSERT INTO "job_runs" VALUES(1,6,5,0);
INSERT INTO "job_runs" VALUES(2,7,0,0);
INSERT INTO "job_runs" VALUES(3,8,0,0);
INSERT INTO "job_runs" VALUES(4,9,0,0);
INSERT INTO "job_runs" VALUES(5,10,0,0);
INSERT INTO "job_runs" VALUES(6,11,0,0);
INSERT INTO "job_runs" VALUES(7,12,0,0);
INSERT INTO "job_runs" VALUES(7,13,1,0);
INSERT INTO "job_runs" VALUES(7,14,2,0);
INSERT INTO "job_runs" VALUES(7,15,3,0);
INSERT INTO "job_runs" VALUES(8,16,0,0);
INSERT INTO "job_runs" VALUES(9,1,0,1);
INSERT INTO "job_runs" VALUES(9,2,1,1);
INSERT INTO "job_runs" VALUES(9,3,3,1);
INSERT INTO "job_runs" VALUES(9,4,4,1);
INSERT INTO "job_runs" VALUES(9,5,6,1);
INSERT INTO "job_runs" VALUES(9,6,7,1);
INSERT INTO "job_runs" VALUES(9,17,2,0);
INSERT INTO "job_runs" VALUES(9,18,5,0);
INSERT INTO "job_runs" VALUES(9,19,8,0);
INSERT INTO "job_runs" VALUES(10,20,0,0);
INSERT INTO "job_runs" VALUES(10,21,1,0);
INSERT INTO "job_runs" VALUES(10,22,2,0);
INSERT INTO "job_runs" VALUES(10,23,3,0);
INSERT INTO "job_runs" VALUES(10,24,4,0);
INSERT INTO "job_runs" VALUES(10,25,5,0);
INSERT INTO "job_runs" VALUES(11,26,0,0);
INSERT INTO "job_runs" VALUES(12,27,0,0);
INSERT INTO "job_runs" VALUES(12,28,1,0);
INSERT INTO "job_runs" VALUES(13,29,0,0);
INSERT INTO "job_runs" VALUES(14,30,0,0);
INSERT INTO "job_runs" VALUES(15,31,0,0);
INSERT INTO "job_runs" VALUES(15,32,1,0);
INSERT INTO "job_runs" VALUES(16,33,0,0);
INSERT INTO "job_runs" VALUES(16,34,1,0);
INSERT INTO "job_runs" VALUES(17,35,0,0);
INSERT INTO "job_runs" VALUES(18,36,0,0);
INSERT INTO "job_runs" VALUES(19,37,0,0);
CREATE TABLE jobs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	experiment_id INTEGER NOT NULL, 
	spec JSON NOT NULL, 
	spec_version VARCHAR NOT NULL, 
	profile VARCHAR NOT NULL, 
	device VARCHAR NOT NULL, 
	priority INTEGER NOT NULL, 
	needs JSON NOT NULL, 
	"commit" VARCHAR, 
	dirty BOOLEAN, 
	sources_hash VARCHAR NOT NULL, 
	packages_hash VARCHAR NOT NULL, 
	created_at DOUBLE NOT NULL, 
	FOREIGN KEY(experiment_id) REFERENCES experiments (id)
);
INSERT INTO "jobs" VALUES(1,1,'{"axes":["distance"],"hypothesis":"distance raises the value","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"swept","needs":[],"params":{"checkpoint_every":2,"step_s":0,"steps":4},"plots":[],"predictions":[{"best_at":null,"claim":"the value is lower at distance 0","compare":{"a":{"distance":0.0},"at":"last","b":{"distance":1.0},"difference_above":null,"difference_below":0.0,"metric":"value","ratio_above":null,"ratio_below":null,"within":null},"crosses":null,"id":"near_is_better","threshold":null,"trend":null},{"best_at":null,"claim":"the value ends below 0.1","compare":null,"crosses":null,"id":"value_is_tiny","threshold":{"above":null,"at":"last","below":0.1,"metric":"value","relative_to":null,"where":{"distance":0.0}},"trend":null}],"profiles":{},"questions":[],"seeds":[0,1,2],"sweep":{"grid":{"distance":[0.0,1.0]},"list":null,"random":null,"search":null,"zip":null},"track":"other"}','c8a21a9eef7b7a24939f7041ca24934a244f06755741bd64d3796f30d6e4a566','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580490061767816542e+09);
INSERT INTO "jobs" VALUES(2,2,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"fails","needs":[],"params":{"checkpoint_every":2,"fault":"raise","step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','2e34538d9ec07f51ea54c5c943c0dfad183b8378645ea379b1b76ad0ce0a5110','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580490171059036254e+09);
INSERT INTO "jobs" VALUES(3,3,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"diverges","needs":[],"params":{"checkpoint_every":2,"fault":"nan","fault_at":3,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','dc9a318ae7542ba42faa35c8ea3e8f6d0983e13f8d9effbba8eee5cc9435c316','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580490280726456637e+09);
INSERT INTO "jobs" VALUES(4,4,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":1,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"crashes","needs":[],"params":{"checkpoint_every":2,"fault":"exit","step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','73bb7abf1e5608aade1af6e06f11c060044048387a6d3c3193e81c5903332ce4','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580490399273037913e+09);
INSERT INTO "jobs" VALUES(5,5,'{"axes":[],"hypothesis":"","kind":"maker","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"source","needs":[],"params":{"file":"words"},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','c3f2cdf96c24357e8751b2c0ba667ba34986e2d2b7990d9510b56ba293fb4e2e','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580490512581801413e+09);
INSERT INTO "jobs" VALUES(6,6,'{"axes":[],"hypothesis":"","kind":"taker","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"taker","needs":[],"params":{"source":{"from_run":{"artifact":"words","experiment":"source"}}},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','58c05cba3d4a82348cd7837c7f80debab1df70080c63901cf5aa99c4565d4480','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580491428716301923e+09);
INSERT INTO "jobs" VALUES(7,7,'{"axes":["distance"],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"searched","needs":[],"params":{"checkpoint_every":2,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":{"grid":null,"list":null,"random":null,"search":{"direction":"minimize","metric":"value","prune_after":0,"pruner":"none","sampler":"random","seed":0,"space":{"distance":{"uniform":[-2,2]}},"trials":4},"zip":null},"track":"other"}','fab6370a87225d2741463ff4a0baf6e336b77ebfee504aa800419cc86327a9c5','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580491527293157573e+09);
INSERT INTO "jobs" VALUES(8,8,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"old_idea","needs":[],"params":{"checkpoint_every":2,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','a0146716fed70e57c98ccf704104fa7343ddb62e7d18575b879e2931416df682','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580492095902156824e+09);
INSERT INTO "jobs" VALUES(9,1,'{"axes":["distance"],"hypothesis":"distance raises the value","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"swept","needs":[],"params":{"checkpoint_every":2,"step_s":0,"steps":4},"plots":[],"predictions":[{"best_at":null,"claim":"the value is lower at distance 0","compare":{"a":{"distance":0.0},"at":"last","b":{"distance":1.0},"difference_above":null,"difference_below":0.0,"metric":"value","ratio_above":null,"ratio_below":null,"within":null},"crosses":null,"id":"near_is_better","threshold":null,"trend":null},{"best_at":null,"claim":"the value ends below 0.1","compare":null,"crosses":null,"id":"value_is_tiny","threshold":{"above":null,"at":"last","below":0.1,"metric":"value","relative_to":null,"where":{"distance":0.0}},"trend":null}],"profiles":{},"questions":[],"seeds":[0,1,2],"sweep":{"grid":{"distance":[0.0,1.0,2.0]},"list":null,"random":null,"search":null,"zip":null},"track":"other"}','8ba84163cd04e8ba942b6e3f28484e8e376568c39f3190164063e136a1fe84b4','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.795804924913416624e+09);
INSERT INTO "jobs" VALUES(10,10,'{"axes":["distance"],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"ended_early","needs":[],"params":{"checkpoint_every":2,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":{"grid":null,"list":null,"random":null,"search":{"direction":"minimize","metric":"value","prune_after":0,"pruner":"none","sampler":"random","seed":0,"space":{"distance":{"uniform":[-2,2]}},"trials":6},"zip":null},"track":"other"}','fab6370a87225d2741463ff4a0baf6e336b77ebfee504aa800419cc86327a9c5','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580493023554229733e+09);
INSERT INTO "jobs" VALUES(11,11,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"Two steps, an evaluation and a save of every distinct shape of rehearsed.","name":"rehearsed_preflight","needs":[],"params":{"checkpoint_every":2,"fault":"raise","fault_at":1,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','15a89f87b4c148137d9ebea9c93eab079d42d49a5c447f5454ba38572b809c75','cpu','cpu',1,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580493192316317557e+09);
INSERT INTO "jobs" VALUES(12,12,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"rehearsed","needs":[],"params":{"checkpoint_every":2,"fault":"raise","fault_at":1,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0,1],"sweep":null,"track":"other"}','2e34538d9ec07f51ea54c5c943c0dfad183b8378645ea379b1b76ad0ce0a5110','cpu','cpu',0,'[{"accept":[],"experiment":"rehearsed_preflight","job":11,"serves":{"5d6681296ffc300bad118c8cbe4510a777c456bc2a18bd2d285af07a6eea911e":"9b040f0f5817042d24dfef194909b772715b17d373af40f490293ffada0789e5","89beecbbd57bd4058498a2e56c3c58963369a4b126864a50afa197ff8498a8a3":"9b040f0f5817042d24dfef194909b772715b17d373af40f490293ffada0789e5"},"where":{}}]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580493193365025523e+09);
INSERT INTO "jobs" VALUES(13,13,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"slow","needs":[],"params":{"checkpoint_every":5,"step_s":0.02,"steps":100000},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','45100dc201cb91027ba8f9464965c741753e7322f452ec6a49e65b9a1bed5fd8','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580493672748541834e+09);
INSERT INTO "jobs" VALUES(14,14,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"follows","needs":[{"accept":[],"experiment":"fails","where":{}}],"params":{"checkpoint_every":2,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','a0146716fed70e57c98ccf704104fa7343ddb62e7d18575b879e2931416df682','cpu','cpu',0,'[{"accept":[],"experiment":"fails","job":2,"where":{}}]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580493789634370802e+09);
INSERT INTO "jobs" VALUES(15,15,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"paused_whole","needs":[],"params":{"checkpoint_every":2,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0,1],"sweep":null,"track":"other"}','a0146716fed70e57c98ccf704104fa7343ddb62e7d18575b879e2931416df682','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580493910057854651e+09);
INSERT INTO "jobs" VALUES(16,16,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"paused_one","needs":[],"params":{"checkpoint_every":2,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0,1],"sweep":null,"track":"other"}','a0146716fed70e57c98ccf704104fa7343ddb62e7d18575b879e2931416df682','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.7958049402847440243e+09);
INSERT INTO "jobs" VALUES(17,17,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":900000.0,"wall_minutes":null},"methodology":"","name":"too_large","needs":[],"params":{"checkpoint_every":2,"step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','a0146716fed70e57c98ccf704104fa7343ddb62e7d18575b879e2931416df682','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580494145457839963e+09);
INSERT INTO "jobs" VALUES(18,18,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"retries","needs":[],"params":{"checkpoint_every":2,"fault":"exit","step_s":0,"steps":4},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','73bb7abf1e5608aade1af6e06f11c060044048387a6d3c3193e81c5903332ce4','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580494942516446111e+09);
INSERT INTO "jobs" VALUES(19,19,'{"axes":[],"hypothesis":"","kind":"drill","limits":{"attempts":3,"memory_gib":"auto","wall_minutes":null},"methodology":"","name":"computes","needs":[],"params":{"checkpoint_every":5,"step_s":0.02,"steps":100000},"plots":[],"predictions":[],"profiles":{},"questions":[],"seeds":[0],"sweep":null,"track":"other"}','45100dc201cb91027ba8f9464965c741753e7322f452ec6a49e65b9a1bed5fd8','cpu','cpu',0,'[]','0000000000000000000000000000000000000001',0,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343',1.79580495206307363511e+09);
CREATE TABLE metrics (
	series_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	value DOUBLE, 
	PRIMARY KEY (series_id, step), 
	FOREIGN KEY(series_id) REFERENCES series (id)
)
 WITHOUT ROWID

;
INSERT INTO "metrics" VALUES(1,1,7.88217937118211531277e-01);
INSERT INTO "metrics" VALUES(1,2,5.92564878665621908027e-01);
INSERT INTO "metrics" VALUES(1,3,4.65569408260230466201e-01);
INSERT INTO "metrics" VALUES(1,4,3.71584476846048950005e-01);
INSERT INTO "metrics" VALUES(2,1,1.7882179371182116423e+00);
INSERT INTO "metrics" VALUES(2,2,1.59256487866562190802e+00);
INSERT INTO "metrics" VALUES(2,3,1.46556940826023063273e+00);
INSERT INTO "metrics" VALUES(2,4,1.37158447684604900551e+00);
INSERT INTO "metrics" VALUES(3,1,7.91682630602959513943e-01);
INSERT INTO "metrics" VALUES(3,2,6.2102511579963115551e-01);
INSERT INTO "metrics" VALUES(3,3,4.73029910830397304355e-01);
INSERT INTO "metrics" VALUES(3,4,0.360234004661726);
INSERT INTO "metrics" VALUES(4,1,1.79168263060295962496e+00);
INSERT INTO "metrics" VALUES(4,2,1.62102511579963115551e+00);
INSERT INTO "metrics" VALUES(4,3,1.47302991083039747088e+00);
INSERT INTO "metrics" VALUES(4,4,1.36023400466172605938e+00);
INSERT INTO "metrics" VALUES(5,1,8.02182450433163940495e-01);
INSERT INTO "metrics" VALUES(5,2,5.99902120631965241059e-01);
INSERT INTO "metrics" VALUES(5,3,4.76315148953326328307e-01);
INSERT INTO "metrics" VALUES(5,4,3.69344655643836172753e-01);
INSERT INTO "metrics" VALUES(6,1,1.80218245043316405151e+00);
INSERT INTO "metrics" VALUES(6,2,1.59990212063196524105e+00);
INSERT INTO "metrics" VALUES(6,3,1.47631514895332638381e+00);
INSERT INTO "metrics" VALUES(6,4,1.36934465564383622826e+00);
INSERT INTO "metrics" VALUES(7,1,7.88217937118211531277e-01);
INSERT INTO "metrics" VALUES(7,2,5.92564878665621908027e-01);
INSERT INTO "metrics" VALUES(7,3,NULL);
INSERT INTO "metrics" VALUES(8,0,41.0);
INSERT INTO "metrics" VALUES(9,1,1.43893309911283684421e+00);
INSERT INTO "metrics" VALUES(9,2,1.24328004066024733198e+00);
INSERT INTO "metrics" VALUES(9,3,1.11628457025485583464e+00);
INSERT INTO "metrics" VALUES(9,4,1.02229963884067420742e+00);
INSERT INTO "metrics" VALUES(10,1,7.90197115789844195532e-01);
INSERT INTO "metrics" VALUES(10,2,5.94544057337254572281e-01);
INSERT INTO "metrics" VALUES(10,3,4.67548586931863130455e-01);
INSERT INTO "metrics" VALUES(10,4,3.73563655517681614259e-01);
INSERT INTO "metrics" VALUES(11,1,1.18014959928958651502e+00);
INSERT INTO "metrics" VALUES(11,2,9.84496540836996891776e-01);
INSERT INTO "metrics" VALUES(11,3,8.57501070431605505461e-01);
INSERT INTO "metrics" VALUES(11,4,7.63516139017423878243e-01);
INSERT INTO "metrics" VALUES(12,1,1.21165134977219479672e+00);
INSERT INTO "metrics" VALUES(12,2,1.01599829131960528449e+00);
INSERT INTO "metrics" VALUES(12,3,8.89002820914213787162e-01);
INSERT INTO "metrics" VALUES(12,4,7.95017889500032270966e-01);
INSERT INTO "metrics" VALUES(13,1,7.88217937118211531277e-01);
INSERT INTO "metrics" VALUES(13,2,5.92564878665621908027e-01);
INSERT INTO "metrics" VALUES(13,3,4.65569408260230466201e-01);
INSERT INTO "metrics" VALUES(13,4,3.71584476846048950005e-01);
INSERT INTO "metrics" VALUES(14,1,4.78821793711821097616e+00);
INSERT INTO "metrics" VALUES(14,2,4.59256487866562146393e+00);
INSERT INTO "metrics" VALUES(14,3,4.46556940826023);
INSERT INTO "metrics" VALUES(14,4,4.37158447684604922756e+00);
INSERT INTO "metrics" VALUES(15,1,4.79168263060295895883e+00);
INSERT INTO "metrics" VALUES(15,2,4.62102511579963071142e+00);
INSERT INTO "metrics" VALUES(15,3,4.47302991083039724884e+00);
INSERT INTO "metrics" VALUES(15,4,4.36023400466172628142e+00);
INSERT INTO "metrics" VALUES(16,1,4.80218245043316382947e+00);
INSERT INTO "metrics" VALUES(16,2,4.59990212063196501901e+00);
INSERT INTO "metrics" VALUES(16,3,4.47631514895332660586e+00);
INSERT INTO "metrics" VALUES(16,4,4.36934465564383689439e+00);
INSERT INTO "metrics" VALUES(17,1,1.00940715409680636938e+00);
INSERT INTO "metrics" VALUES(17,2,9.86014219152987148042e-01);
INSERT INTO "metrics" VALUES(17,3,9.93172855969211343385e-01);
INSERT INTO "metrics" VALUES(17,4,1.00366503647459603953e+00);
INSERT INTO "metrics" VALUES(17,5,9.89786512308098442858e-01);
INSERT INTO "metrics" VALUES(17,6,9.99218801572113290987e-01);
INSERT INTO "metrics" VALUES(17,7,1.00172196732269136454e+00);
INSERT INTO "metrics" VALUES(17,8,9.91609011047204780275e-01);
INSERT INTO "metrics" VALUES(17,9,0.986819630405285);
INSERT INTO "metrics" VALUES(17,10,1.00183888241232432747e+00);
INSERT INTO "metrics" VALUES(17,11,1.00982250308513021863e+00);
INSERT INTO "metrics" VALUES(17,12,0.993410190894237);
INSERT INTO "metrics" VALUES(17,13,9.96533328611677093888e-01);
INSERT INTO "metrics" VALUES(17,14,1.01631672740536949106e+00);
INSERT INTO "metrics" VALUES(17,15,9.94261113590954814789e-01);
INSERT INTO "metrics" VALUES(17,16,9.94698446168790106902e-01);
INSERT INTO "metrics" VALUES(17,17,1.02387120777216678035e+00);
INSERT INTO "metrics" VALUES(17,18,9.84509190270291711932e-01);
INSERT INTO "metrics" VALUES(17,19,1.00777467645179252819e+00);
INSERT INTO "metrics" VALUES(17,20,9.79763534827152726691e-01);
INSERT INTO "metrics" VALUES(17,21,9.93820394567599518786e-01);
INSERT INTO "metrics" VALUES(17,22,1.0148168330230447065e+00);
INSERT INTO "metrics" VALUES(17,23,1.01198439057873912361e+00);
INSERT INTO "metrics" VALUES(17,24,9.9074882729374225132e-01);
INSERT INTO "metrics" VALUES(17,25,9.95213043946149844565e-01);
INSERT INTO "metrics" VALUES(17,26,1.00054236422117703853e+00);
INSERT INTO "metrics" VALUES(17,27,9.87149003469475094796e-01);
INSERT INTO "metrics" VALUES(17,28,1.00524223924695155218e+00);
INSERT INTO "metrics" VALUES(17,29,1.02198581496663765122e+00);
INSERT INTO "metrics" VALUES(17,30,9.86147630059987734263e-01);
INSERT INTO "metrics" VALUES(17,31,9.79874717249502369398e-01);
INSERT INTO "metrics" VALUES(17,32,1.00256248865035);
INSERT INTO "metrics" VALUES(17,33,9.98478821333165345031e-01);
INSERT INTO "metrics" VALUES(17,34,1.01770335711264525713e+00);
INSERT INTO "metrics" VALUES(17,35,9.98046439452284772642e-01);
INSERT INTO "metrics" VALUES(17,36,9.99133467655737406154e-01);
INSERT INTO "metrics" VALUES(17,37,0.997721329545546);
INSERT INTO "metrics" VALUES(17,38,9.89714009807372563365e-01);
INSERT INTO "metrics" VALUES(17,39,1.00634037588036817645e+00);
INSERT INTO "metrics" VALUES(17,40,9.86359255344614216376e-01);
INSERT INTO "metrics" VALUES(18,1,7.91682630602959513943e-01);
INSERT INTO "metrics" VALUES(18,2,6.2102511579963115551e-01);
INSERT INTO "metrics" VALUES(18,3,4.73029910830397304355e-01);
INSERT INTO "metrics" VALUES(18,4,0.360234004661726);
INSERT INTO "metrics" VALUES(19,1,1.00940715409680636938e+00);
INSERT INTO "metrics" VALUES(19,2,9.86014219152987148042e-01);
INSERT INTO "metrics" VALUES(19,3,9.93172855969211343385e-01);
INSERT INTO "metrics" VALUES(19,4,1.00366503647459603953e+00);
INSERT INTO "metrics" VALUES(19,5,9.89786512308098442858e-01);
CREATE TABLE runs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	job_id INTEGER NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	device VARCHAR NOT NULL, 
	seed INTEGER NOT NULL, 
	varied JSON NOT NULL, 
	params JSON NOT NULL, 
	limits JSON NOT NULL, 
	spec_hash VARCHAR NOT NULL, 
	priority INTEGER NOT NULL, 
	state VARCHAR NOT NULL, 
	outcome VARCHAR, 
	reason VARCHAR, 
	queued_at DOUBLE NOT NULL, 
	started_at DOUBLE, 
	finished_at DOUBLE, 
	token INTEGER NOT NULL, 
	attempts_used INTEGER NOT NULL, 
	stalls INTEGER NOT NULL, 
	request VARCHAR, 
	paused_until VARCHAR, 
	not_before VARCHAR, 
	released BOOLEAN NOT NULL, 
	adjusted JSON, 
	wait_code VARCHAR, 
	wait_text VARCHAR, 
	progress_done INTEGER, 
	progress_total INTEGER, 
	rate DOUBLE, 
	wall_s DOUBLE, 
	peak_memory_gib DOUBLE, 
	context_gib DOUBLE, 
	estimated_memory_gib DOUBLE, 
	sources_hash VARCHAR, 
	packages_hash VARCHAR, 
	CONSTRAINT a_known_state CHECK (state IN ('queued', 'running', 'finished')), 
	CONSTRAINT a_known_outcome CHECK (outcome IN ('succeeded', 'failed', 'cancelled', 'out_of_memory', 'diverged', 'timed_out', 'pruned', 'crashed')), 
	CONSTRAINT finished_has_an_outcome CHECK ((state = 'finished') = (outcome IS NOT NULL)), 
	CONSTRAINT finished_has_an_end CHECK ((state = 'finished') = (finished_at IS NOT NULL)), 
	CONSTRAINT running_was_claimed CHECK (state != 'running' OR (token > 0 AND started_at IS NOT NULL)), 
	CONSTRAINT success_was_executed CHECK (outcome IS NULL OR outcome != 'succeeded' OR token > 0), 
	FOREIGN KEY(job_id) REFERENCES jobs (id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (id)
);
INSERT INTO "runs" VALUES(1,1,1,'drill','cpu',0,'{"distance":0.0}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','791077d7e0d5af85d3193cab5ea1e76ae076c47298943a07999fcef536a0fb54',0,'finished','succeeded',NULL,1.79580490061767816542e+09,1.79580490620901942248e+09,1.79580490731838512421e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.11565187799897103104e+00,5.3890228271484375e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(2,1,1,'drill','cpu',0,'{"distance":1.0}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":1.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','976735c5d45d046ec8ff446a5f59eafd35e8d90c53a33b7d0e18a9b73b0ebcdd',0,'finished','succeeded',NULL,1.79580490061767816542e+09,1.79580490737635588638e+09,1.79580490748699045182e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.13097761000972241163e-01,5.405426025390625e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(3,1,1,'drill','cpu',1,'{"distance":0.0}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','6e07013be8087cebb9f8f3e439e32693e4af150c2cb94ce4352540850aaf833c',0,'finished','succeeded',NULL,1.79580490061767816542e+09,1.79580490752058839799e+09,1.7958049089423594475e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.42494499900021764915e+00,5.3897857666015625e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(4,1,1,'drill','cpu',1,'{"distance":1.0}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":1.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','6094e725f9b581b2cfa97dc692138ea90b23af6721704550e1d82d8331122b47',0,'finished','succeeded',NULL,1.79580490061767816542e+09,1.79580490897173166275e+09,1.79580490913155388834e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.62395518000266747549e-01,5.3997039794921875e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(5,1,1,'drill','cpu',2,'{"distance":0.0}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','9e7d778af62ccd715c662e263bc50737e49fcf7a7cf284f32d14583c9c0b39a9',0,'finished','succeeded',NULL,1.79580490061767816542e+09,1.7958049091624326706e+09,1.79580491048273181917e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.32164816799922846257e+00,5.3890228271484375e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(6,1,1,'drill','cpu',2,'{"distance":1.0}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":1.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','f2aaff646cf7aad0be93882a041e852e0ed40dd7647aec34fb0be06ea515052b',0,'finished','succeeded',NULL,1.79580490061767816542e+09,1.79580491050462126732e+09,1.79580491074740076062e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,2.48787447999347932636e-01,5.396270751953125e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(7,2,2,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"raise","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','5d6681296ffc300bad118c8cbe4510a777c456bc2a18bd2d285af07a6eea911e',0,'finished','failed','RuntimeError: the drill raises at step 1, as asked',1.79580490171059036254e+09,1.79580491080696725844e+09,1.79580491171484804158e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,9.09559918000013567507e-01,5.3630828857421875e-02,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(8,3,3,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"nan","fault_at":3,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','0e967126c318c990ffea9b5e15c64305433435ddd56ba28883dfe2b604970f94',0,'finished','diverged','value is not finite at step 3 (last finite at step 2)',1.79580490280726456637e+09,1.79580491173878836631e+09,1.79580491224711036681e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,2,4,NULL,5.09758765001606661826e-01,5.405426025390625e-02,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(9,4,4,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"exit","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":1,"memory_gib":"auto","wall_minutes":null}','fd7b55049d20812ae1b3736ced5da9538c013afed3a7669b5e7290d837d12bc4',0,'finished','crashed','died of exit status 3',1.79580490399273037913e+09,1.79580491228497648244e+09,1.79580491274602460863e+09,1,1,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,4.62619308000284945592e-01,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(10,5,5,'maker','cpu',0,'{}','{"file":"words"}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','cfd48bc5ecbfd2b1b5bd5f633593fe42e9989346b537b8f071311c233a403512',0,'finished','succeeded',NULL,1.79580490512581801413e+09,1.79580491276581454278e+09,1.79580491339297580724e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.23633278999477624893e-01,5.4187774658203125e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(11,6,6,'taker','cpu',0,'{}','{"source":{"from_run":{"artifact":"words","experiment":"source"}}}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','71231c7dfed9d9c8f4ace29cc8f3db61126046300befccb58185e256b7e16c53',0,'finished','succeeded',NULL,1.79580491428716301923e+09,1.7958049162135176659e+09,1.7958049170952291489e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,8.77671873000508639961e-01,5.3279876708984375e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(12,7,7,'drill','cpu',0,'{"distance":0.8066691775409702}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.8066691775409702,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','8d11468faff3a9de55e46813fcea428669e4b3ed086c833d564f8804b4f9a6fb',0,'finished','succeeded',NULL,1.79580491527293157573e+09,1.79580491713854837419e+09,1.79580491746099185938e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,3.23392102000070735812e-01,0.0540008544921875,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(13,7,7,'drill','cpu',0,'{"distance":-0.044487960974095575}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":-0.044487960974095575,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','9000ab3b84883e9ca46c79453fc019fd0346f8d9a1fd9b157851f01a66ee65d9',0,'finished','succeeded',NULL,1.79580491527293157573e+09,1.79580491754168295858e+09,1.79580491860317444799e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.06397297900002740789e+00,0.053955078125,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(14,7,7,'drill','cpu',0,'{"distance":0.6260444570247188}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.6260444570247188,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','bcb7cbbe1e47ded74ad0350d87b544d3ba5cef3e29e4273bb3070765c85e6108',0,'finished','succeeded',NULL,1.79580491527293157573e+09,1.79580491862386202811e+09,1.79580491903806233403e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,4.15990035000504576601e-01,5.3905487060546875e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(15,7,7,'drill','cpu',0,'{"distance":0.6507176136036148}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.6507176136036148,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','ac10cc15c58c857fcb135c599229ca23fee9de63f8cddc4029d833bc6533c099',0,'finished','succeeded',NULL,1.79580491527293157573e+09,1.79580491906019377706e+09,1.79580492019915819172e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.14045515399993746541e+00,5.3852081298828125e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(16,8,8,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','791077d7e0d5af85d3193cab5ea1e76ae076c47298943a07999fcef536a0fb54',0,'finished','succeeded',NULL,1.79580492095902156824e+09,1.79580492202830171587e+09,1.79580492313616704941e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.10840585500045563094e+00,5.3722381591796875e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(17,9,1,'drill','cpu',0,'{"distance":2.0}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":2.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','b751a450fa38cbcfaee1330f13d061e552fb2ef81049a1a34d6b6a3c234c10c3',0,'finished','succeeded',NULL,1.795804924913416624e+09,1.79580492600692152981e+09,1.79580492750719928739e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.50550973900135431904e+00,5.399322509765625e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(18,9,1,'drill','cpu',1,'{"distance":2.0}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":2.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','bf5ff12156983864c234173bc5f55564f42cc0704487c8d820fe005af614cfd5',0,'finished','succeeded',NULL,1.795804924913416624e+09,1.79580492755394721029e+09,1.79580492773892354966e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.86088402000677888281e-01,5.4004669189453125e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(19,9,1,'drill','cpu',2,'{"distance":2.0}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":2.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','44532ff0e8e7b6e8049aad09d39a65a8f097cb793a556ef972fcc3b8ac20e42a',0,'finished','succeeded',NULL,1.795804924913416624e+09,1795804927.77537,1.79580492881890821455e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,1.04505837200122186914e+00,5.405426025390625e-02,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(20,10,10,'drill','cpu',0,'{"distance":0.8066691775409702}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.8066691775409702,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','8d11468faff3a9de55e46813fcea428669e4b3ed086c833d564f8804b4f9a6fb',0,'finished','pruned','the search ended before its turn: the budget of 1 h ended first',1.79580493023554229733e+09,NULL,1.79580493061183714864e+09,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(21,10,10,'drill','cpu',0,'{"distance":-0.044487960974095575}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":-0.044487960974095575,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','9000ab3b84883e9ca46c79453fc019fd0346f8d9a1fd9b157851f01a66ee65d9',0,'finished','pruned','the search ended before its turn: the budget of 1 h ended first',1.79580493023554229733e+09,NULL,1.79580493061183714864e+09,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(22,10,10,'drill','cpu',0,'{"distance":0.6260444570247188}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.6260444570247188,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','bcb7cbbe1e47ded74ad0350d87b544d3ba5cef3e29e4273bb3070765c85e6108',0,'finished','pruned','the search ended before its turn: the budget of 1 h ended first',1.79580493023554229733e+09,NULL,1.79580493061183714864e+09,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(23,10,10,'drill','cpu',0,'{"distance":0.6507176136036148}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.6507176136036148,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','ac10cc15c58c857fcb135c599229ca23fee9de63f8cddc4029d833bc6533c099',0,'finished','pruned','the search ended before its turn: the budget of 1 h ended first',1.79580493023554229733e+09,NULL,1.79580493061183714864e+09,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(24,10,10,'drill','cpu',0,'{"distance":1.2063263602115426}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":1.2063263602115426,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','7684c099864923b4cf4b975255075e13d779e5e0698c1b47a89a9cc9ad637ee7',0,'finished','pruned','the search ended before its turn: the budget of 1 h ended first',1.79580493023554229733e+09,NULL,1.79580493061183714864e+09,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(25,10,10,'drill','cpu',0,'{"distance":0.8717762243799281}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.8717762243799281,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','279e9c06575157ea623d9207be230205904ddb8c66de5a19655e29c2db0d0d79',0,'finished','pruned','the search ended before its turn: the budget of 1 h ended first',1.79580493023554229733e+09,NULL,1.79580493061183714864e+09,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(26,11,11,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":1,"distance":0.0,"fault":"raise","fault_at":1,"ledger":null,"step_s":0.0,"steps":2}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','9b040f0f5817042d24dfef194909b772715b17d373af40f490293ffada0789e5',1,'finished','failed','RuntimeError: the drill raises at step 1, as asked',1.79580493192316317557e+09,1.79580493334744071957e+09,1.79580493496484589572e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,1.623194514999340754e+00,5.3554534912109375e-02,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(27,12,12,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"raise","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','5d6681296ffc300bad118c8cbe4510a777c456bc2a18bd2d285af07a6eea911e',0,'queued',NULL,NULL,1.79580493193365025523e+09,NULL,NULL,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(28,12,12,'drill','cpu',1,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"raise","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','89beecbbd57bd4058498a2e56c3c58963369a4b126864a50afa197ff8498a8a3',0,'queued',NULL,NULL,1.79580493193365025523e+09,NULL,NULL,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(29,13,13,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":5,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.02,"steps":100000}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','4ffd89971891c3d7a6afac9a517acbf20d574e848bd698a32ca24bc024eae0ad',0,'queued',NULL,'paused by a person',1.79580493672748541834e+09,1.79580494435347270965e+09,NULL,1,0,0,NULL,'forever',NULL,0,NULL,NULL,NULL,61,100000,NULL,2.89444729800015920773e+00,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(30,14,14,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','791077d7e0d5af85d3193cab5ea1e76ae076c47298943a07999fcef536a0fb54',0,'queued',NULL,NULL,1.79580493789634370802e+09,NULL,NULL,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(31,15,15,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','791077d7e0d5af85d3193cab5ea1e76ae076c47298943a07999fcef536a0fb54',0,'queued',NULL,NULL,1.79580493910057854651e+09,NULL,NULL,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(32,15,15,'drill','cpu',1,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','6e07013be8087cebb9f8f3e439e32693e4af150c2cb94ce4352540850aaf833c',0,'queued',NULL,NULL,1.79580493910057854651e+09,NULL,NULL,0,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(33,16,16,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','791077d7e0d5af85d3193cab5ea1e76ae076c47298943a07999fcef536a0fb54',0,'queued',NULL,NULL,1.7958049402847440243e+09,NULL,NULL,0,0,0,NULL,'forever',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(34,16,16,'drill','cpu',1,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','6e07013be8087cebb9f8f3e439e32693e4af150c2cb94ce4352540850aaf833c',0,'finished','succeeded',NULL,1.7958049402847440243e+09,1.79580494733203506474e+09,1.79580494769944763178e+09,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,4,4,NULL,3.7191046599946275819e-01,0.0539398193359375,NULL,NULL,'9d952141fe9fb66a1db5a24f403716ae90217ad2aaf324815a6f04bc11cbaf8d','e788a01ebe0663cdc8d3e0c5dd0570c736ec3c327598604ebeb1361daca7d343');
INSERT INTO "runs" VALUES(35,17,17,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":900000.0,"wall_minutes":null}','791077d7e0d5af85d3193cab5ea1e76ae076c47298943a07999fcef536a0fb54',0,'queued',NULL,NULL,1.79580494145457839963e+09,NULL,NULL,0,0,0,NULL,NULL,NULL,0,NULL,'memory','needs 900000.0 GiB (limits.memory_gib) and less than 21.0 are free on this machine: something else holds the rest',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(36,18,18,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":2,"distance":0.0,"fault":"exit","fault_at":1,"ledger":null,"step_s":0.0,"steps":4}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','fd7b55049d20812ae1b3736ced5da9538c013afed3a7669b5e7290d837d12bc4',0,'queued',NULL,'died of exit status 3',1.79580494942516446111e+09,1.79580495218290853501e+09,NULL,2,2,0,NULL,NULL,'00000000-0000-4000-8000-000000000001 13841.819 1795804962.509',0,NULL,NULL,NULL,NULL,NULL,NULL,9.36436833999323425814e-01,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(37,19,19,'drill','cpu',0,'{}','{"allocate_mib":1000000,"checkpoint_every":5,"distance":0.0,"fault":"none","fault_at":1,"ledger":null,"step_s":0.02,"steps":100000}','{"attempts":3,"memory_gib":"auto","wall_minutes":null}','4ffd89971891c3d7a6afac9a517acbf20d574e848bd698a32ca24bc024eae0ad',0,'running',NULL,NULL,1.79580495206307363511e+09,1.79580495259190058704e+09,NULL,1,0,0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE series (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	points INTEGER NOT NULL, 
	first DOUBLE, 
	first_step INTEGER NOT NULL, 
	last DOUBLE, 
	last_step INTEGER NOT NULL, 
	min DOUBLE, 
	min_step INTEGER, 
	max DOUBLE, 
	PRIMARY KEY (id), 
	UNIQUE (run_id, name), 
	FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "series" VALUES(1,1,'value',4,7.88217937118211531277e-01,1,3.71584476846048950005e-01,4,3.71584476846048950005e-01,4,7.88217937118211531277e-01);
INSERT INTO "series" VALUES(2,2,'value',4,1.7882179371182116423e+00,1,1.37158447684604900551e+00,4,1.37158447684604900551e+00,4,1.7882179371182116423e+00);
INSERT INTO "series" VALUES(3,3,'value',4,7.91682630602959513943e-01,1,0.360234004661726,4,0.360234004661726,4,7.91682630602959513943e-01);
INSERT INTO "series" VALUES(4,4,'value',4,1.79168263060295962496e+00,1,1.36023400466172605938e+00,4,1.36023400466172605938e+00,4,1.79168263060295962496e+00);
INSERT INTO "series" VALUES(5,5,'value',4,8.02182450433163940495e-01,1,3.69344655643836172753e-01,4,3.69344655643836172753e-01,4,8.02182450433163940495e-01);
INSERT INTO "series" VALUES(6,6,'value',4,1.80218245043316405151e+00,1,1.36934465564383622826e+00,4,1.36934465564383622826e+00,4,1.80218245043316405151e+00);
INSERT INTO "series" VALUES(7,8,'value',3,7.88217937118211531277e-01,1,NULL,3,5.92564878665621908027e-01,2,7.88217937118211531277e-01);
INSERT INTO "series" VALUES(8,11,'letters',1,41.0,0,41.0,0,41.0,0,41.0);
INSERT INTO "series" VALUES(9,12,'value',4,1.43893309911283684421e+00,1,1.02229963884067420742e+00,4,1.02229963884067420742e+00,4,1.43893309911283684421e+00);
INSERT INTO "series" VALUES(10,13,'value',4,7.90197115789844195532e-01,1,3.73563655517681614259e-01,4,3.73563655517681614259e-01,4,7.90197115789844195532e-01);
INSERT INTO "series" VALUES(11,14,'value',4,1.18014959928958651502e+00,1,7.63516139017423878243e-01,4,7.63516139017423878243e-01,4,1.18014959928958651502e+00);
INSERT INTO "series" VALUES(12,15,'value',4,1.21165134977219479672e+00,1,7.95017889500032270966e-01,4,7.95017889500032270966e-01,4,1.21165134977219479672e+00);
INSERT INTO "series" VALUES(13,16,'value',4,7.88217937118211531277e-01,1,3.71584476846048950005e-01,4,3.71584476846048950005e-01,4,7.88217937118211531277e-01);
INSERT INTO "series" VALUES(14,17,'value',4,4.78821793711821097616e+00,1,4.37158447684604922756e+00,4,4.37158447684604922756e+00,4,4.78821793711821097616e+00);
INSERT INTO "series" VALUES(15,18,'value',4,4.79168263060295895883e+00,1,4.36023400466172628142e+00,4,4.36023400466172628142e+00,4,4.79168263060295895883e+00);
INSERT INTO "series" VALUES(16,19,'value',4,4.80218245043316382947e+00,1,4.36934465564383689439e+00,4,4.36934465564383689439e+00,4,4.80218245043316382947e+00);
INSERT INTO "series" VALUES(17,29,'value',61,1.00940715409680636938e+00,1,1.00430312150524980729e+00,61,0.976238651487349,55,1.02561620025172972603e+00);
INSERT INTO "series" VALUES(18,34,'value',4,7.91682630602959513943e-01,1,0.360234004661726,4,0.360234004661726,4,7.91682630602959513943e-01);
INSERT INTO "series" VALUES(19,37,'value',5,1.00940715409680636938e+00,1,9.89786512308098442858e-01,5,9.86014219152987148042e-01,2,1.00940715409680636938e+00);
CREATE TABLE workers (
	id INTEGER NOT NULL, 
	device VARCHAR NOT NULL, 
	host VARCHAR NOT NULL, 
	boot_id VARCHAR NOT NULL, 
	pid INTEGER NOT NULL, 
	pid_start INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	lease VARCHAR NOT NULL, 
	ended_at DOUBLE, 
	PRIMARY KEY (id)
);
INSERT INTO "workers" VALUES(1,'cpu','lab','00000000-0000-4000-8000-000000000001',21397,1378461,1.79580490615805244444e+09,'00000000-0000-4000-8000-000000000001 13792.743 1795804913.433',1.79580491343288350101e+09);
INSERT INTO "workers" VALUES(2,'cpu','lab','00000000-0000-4000-8000-000000000001',21500,1379477,1.79580491615097665781e+09,'00000000-0000-4000-8000-000000000001 13799.534 1795804920.224',1.79580492022366333009e+09);
INSERT INTO "workers" VALUES(3,'cpu','lab','00000000-0000-4000-8000-000000000001',21561,1380039,1.7958049219842152596e+09,'00000000-0000-4000-8000-000000000001 13802.474 1795804923.164',1.79580492316422581674e+09);
INSERT INTO "workers" VALUES(4,'cpu','lab','00000000-0000-4000-8000-000000000001',21592,1380437,1.79580492596126961709e+09,'00000000-0000-4000-8000-000000000001 13808.159 1795804928.848',1.7958049288484153748e+09);
INSERT INTO "workers" VALUES(5,'cpu','lab','00000000-0000-4000-8000-000000000001',21633,1381154,1.79580493325688290593e+09,'00000000-0000-4000-8000-000000000001 13814.494 1795804935.183',1.79580493518347311015e+09);
INSERT INTO "workers" VALUES(6,'cpu','lab','00000000-0000-4000-8000-000000000001',21668,1382274,1.79580494431183791161e+09,'00000000-0000-4000-8000-000000000001 13851.633 1795804972.322',NULL);
CREATE INDEX ix_jobs_experiment_id ON jobs (experiment_id);
CREATE INDEX runs_state ON runs (state);
CREATE INDEX runs_spec ON runs (experiment_id, spec_hash);
CREATE INDEX ix_runs_job_id ON runs (job_id);
CREATE INDEX runs_queue ON runs (device, priority DESC, id) WHERE state = 'queued';
CREATE INDEX ix_job_runs_run_id ON job_runs (run_id);
CREATE UNIQUE INDEX attempts_open ON attempts (run_id) WHERE finished_at IS NULL;
CREATE INDEX ix_attempts_run_id ON attempts (run_id);
CREATE INDEX ix_events_run_id ON events (run_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('experiments',19);
INSERT INTO "sqlite_sequence" VALUES('jobs',19);
INSERT INTO "sqlite_sequence" VALUES('runs',37);
PRAGMA user_version = 1;
COMMIT;
