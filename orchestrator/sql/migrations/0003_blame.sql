-- Node strikes are ends that blame a node; what is done about them is kept here.
ALTER TABLE ends ADD COLUMN blame TEXT NOT NULL DEFAULT 'nobody'
    CHECK (blame IN ('nobody', 'suspect', 'certain'));

CREATE INDEX ends_by_blame ON ends (at) WHERE blame <> 'nobody';
